"""Matches that never see a request, because an equal match goes before them.

Two matches shadow each other if they are of the same kind of route, select the same and are asked
for by the same hostname at the same listener, or at the same port of a Service: then the order of
precedence says which of them gets everything. Narrower and broader matches are no shadows, they
share what comes.
Source: Gateway API v1.7, HTTPRouteRule.matches; issue 4303 of Gateway API asks for the condition.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence

import msgspec

from penstock.core.objects import Broken
from penstock.gatewayapi import grpcroute, matches
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.conditions import holds
from penstock.gatewayapi.grpc_resources import GRPCRoute, GRPCRouteMatch
from penstock.gatewayapi.hostname import ANY
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.routes import AnyRoute
from penstock.gatewayapi.rules import HTTPRouteMatch
from penstock.gatewayapi.stream_resources import TLSRoute
from penstock.ir.route import NamedMatch, RouteMatch
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, Origin
from penstock.meta.problems import Problem, Severity

OVERLAPPED, SHADOWED = "Overlapped", "Shadowed"
SHOWN = 5
"""So many are named in one message."""


class MatchAt(msgspec.Struct, frozen=True):
    """A match of a route and where it is."""

    selects: Hashable
    """Equal for matches that select the same."""
    path: str


class Asked(msgspec.Struct, frozen=True):
    """What a route asks one object for: the bucket of everybody who asks for the same."""

    kind: str
    parent: ParentKind
    target: NamespacedName
    hostname: str
    """As it is written, "*" if none is; "" at a Service, where only those of TLSRoutes matter."""
    selects: Hashable


class Shadow(msgspec.Struct, frozen=True, order=True):
    """A match that gets nothing, and who gets it instead."""

    path: str
    where: str
    """What they both ask for, as "a.test at listener http" or "port 80"."""
    first: Origin
    """The match that goes first."""


def matches_of(route: AnyRoute | Broken) -> tuple[MatchAt, ...]:
    """Return all matches of *route*, in its order; of one that cannot be read, none."""
    match route:
        case HTTPRoute():
            http = ((rule.matches or (HTTPRouteMatch(),)) for rule in route.spec.rules)
            return _placed([[matches.translate_match(one, "") for one in rule] for rule in http])
        case GRPCRoute():
            calls = ((rule.matches or (GRPCRouteMatch(),)) for rule in route.spec.rules)
            return _placed([[grpcroute.translate_match(one, "") for one in rule] for rule in calls])
        case Broken():
            return ()
        case _:
            return (MatchAt((), "spec.rules[0]"),)


def asked_by(route: AnyRoute | Broken) -> Iterator[Asked]:
    """Yield everything that *route* asks its parents for."""
    if isinstance(route, Broken):
        return
    selected = dict.fromkeys(one.selects for one in matches_of(route))
    for parent in dict.fromkeys(route.spec.parent_refs):
        kind = kind_of(parent)
        if kind is ParentKind.FOREIGN:
            continue
        target = target_of(parent, route.key)
        for hostname in names_asked(route.ref.kind, kind, route.spec.hostnames):
            for one in selected:
                yield Asked(route.ref.kind, kind, target, hostname, one)


def names_asked(kind: str, parent: ParentKind, hostnames: Iterable[str]) -> tuple[str, ...]:
    """Return for which hostnames a route asks a parent, as `Asked` has them."""
    if parent is ParentKind.SERVICE and kind != TLSRoute.kind:
        return ("",)
    return tuple(dict.fromkeys(hostnames)) or (ANY,)


def own_shadows(route: AnyRoute | Broken) -> Iterator[Shadow]:
    """Yield the matches of *route* that stand behind an equal one of its own."""
    first: dict[Hashable, str] = {}
    for one in matches_of(route):
        if one.selects in first:
            yield Shadow(one.path, "", Origin(route.ref, first[one.selects]))
        else:
            first[one.selects] = one.path


def condition(shadows: Sequence[Shadow], generation: int) -> Condition:
    """Return what a route says of its matches that get nothing."""
    texts = [_text(one) for one in shadows[:SHOWN]]
    more = f"; and {len(shadows) - SHOWN} more" if len(shadows) > SHOWN else ""
    return holds(OVERLAPPED, SHADOWED, generation, "; ".join(texts) + more)


def problems(shadows: Collection[Shadow]) -> Iterator[Problem]:
    """Yield what the author of a route should know of its matches that get nothing."""
    for one in shadows:
        where = f" for {one.where}" if one.where else ""
        text = f"no request ever comes here{where}: {one.first} goes first"
        yield Problem(
            one.path,
            text,
            "make one of them narrower, or remove it",
            Severity.WARNING,
            related=(one.first,),
        )


def _text(one: Shadow) -> str:
    where = f" for {one.where}" if one.where else ""
    return f"{one.path} gets nothing{where}: {one.first} goes first"


def _placed(rules: Sequence[Sequence[matches.TranslatedMatch]]) -> tuple[MatchAt, ...]:
    return tuple(
        MatchAt(_selects(one.match), f"spec.rules[{index}].matches[{place}]")
        for index, rule in enumerate(rules)
        for place, one in enumerate(rule)
        if not one.faults
    )


def _selects(match: RouteMatch) -> Hashable:
    """Return *match* in a form that is hashed fast, and the same whatever its order."""
    path = (match.path.kind, match.path.value)
    return (path, match.method, _named(match.headers), _named(match.queries))


def _named(given: Sequence[NamedMatch]) -> tuple[tuple[str, bool, str], ...]:
    return tuple(sorted((one.name, one.match.regex, one.match.value) for one in given))
