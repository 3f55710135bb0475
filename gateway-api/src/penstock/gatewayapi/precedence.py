"""Which of several matching routes of one kind wins: a total order.

Source: Gateway API v1.7, HTTPRouteRule.matches and HTTPRoute.spec.hostnames. The order is
1. the route's own hostname, not its intersection with the listener's: narrower first (v1.7);
2. the path: Exact, RegularExpression, PathPrefix; longer first. The place of RegularExpression is
   ours to choose: tools turn a prefix into an expression to add a header match to it (Argo
   Rollouts), so it must beat the prefix it was made from;
3. a method; more headers; more query parameters;
   of a GRPCRoute, instead of 2.: the longer service, then the longer method;
4. the older route, then "namespace/name", then the earlier rule and match.
"""

from __future__ import annotations

import msgspec

from penstock.gatewayapi.hostname import specificity
from penstock.ir.route import PathKind, PathMatch, RouteMatch
from penstock.meta.names import NamespacedName

_PATH_RANK = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2}


class Age(msgspec.Struct, frozen=True, order=True):
    """Order of routes among which matches do not decide."""

    created: str
    """RFC 3339; the empty text is older than every time."""
    name: str
    """"namespace/name"."""

    @classmethod
    def of(cls, key: NamespacedName, created: str) -> Age:
        """Return the age of the route *key*."""
        return cls(created, f"{key.namespace}/{key.name}")


PathRank = tuple[int, int]
"""Place of the path of a match; the smaller goes first. Compared among routes of one kind only."""


class Rank(msgspec.Struct, frozen=True, order=True):
    """Place of one match of one rule; the smaller goes first and no two are equal."""

    hostname: tuple[int, int]
    path: PathRank
    conditions: tuple[int, int, int]
    age: Age
    position: tuple[int, int]
    """Index of the rule, index of the match in it."""


def rank(
    match: RouteMatch,
    hostname: str,
    age: Age,
    position: tuple[int, int],
    path: PathRank | None = None,
) -> Rank:
    """Return the place of *match*.

    Args:
        match: what requests must satisfy.
        hostname: the hostname as the route writes it; "*" if it writes none.
        age: of the route.
        position: index of the rule in the route, index of the match in the rule.
        path: the place of its path; None is what HTTPRoutes go by.
    """
    alone, characters = specificity(hostname)
    return Rank(
        hostname=(-alone, -characters),
        path=_path_rank(match.path) if path is None else path,
        conditions=(0 if match.method else 1, -len(match.headers), -len(match.queries)),
        age=age,
        position=position,
    )


def prefix_rank(prefix: str) -> PathRank:
    """Return the place of a prefix."""
    return _path_rank(PathMatch(kind=PathKind.PREFIX, value=prefix))


def _path_rank(path: PathMatch) -> PathRank:
    """Return rank and length; the trailing slash of a prefix matches nothing and counts nothing."""
    value = path.value.rstrip("/") if path.kind is PathKind.PREFIX else path.value
    return (_PATH_RANK[path.kind], -len(value))
