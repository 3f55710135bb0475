"""Merge the rules of several routes of one kind to the routes of one hostname.

Source: Gateway API v1.7, HTTPRoute.spec.hostnames and HTTPRouteRule.matches; GEP-1294 for Services.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from penstock.gatewayapi.attach import MeshRole
from penstock.gatewayapi.hostname import ANY
from penstock.gatewayapi.precedence import Rank, rank
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.route import Route, VirtualHost


class RankedRoute(msgspec.Struct, frozen=True):
    """A route and its place, which alone decides the order."""

    rank: Rank
    route: Route


class MeshRoute(msgspec.Struct, frozen=True, kw_only=True):
    """The routes of one object on a port of a Service."""

    namespace: str
    """Of the object."""
    role: MeshRole
    ranked: tuple[RankedRoute, ...]


def ranked(route: TranslatedRoute, hostname: str = ANY) -> tuple[RankedRoute, ...]:
    """Return the routes of *route*, the first match first.

    Args:
        route: one object.
        hostname: its own hostname by which it is asked (`AttachedHostname.written`); always "*" on
            a Service.
    """
    return _sorted(
        RankedRoute(
            rank(placed.route.match, hostname, route.age, placed.position, placed.path),
            placed.route,
        )
        for placed in route.routes
    )


def virtual_host(hostname: str, groups: Iterable[Sequence[RankedRoute]]) -> VirtualHost:
    """Return the routes of all *groups*, the first match first, each once.

    Args:
        hostname: for which requests come: "a.test", "*.a.test" or "*".
        groups: one for each object that is asked, in any order. Where routes of a wider hostname
            take what the narrower ones leave, theirs are among them.
    """
    first: dict[str, Route] = {}
    for one in _sorted(one for group in groups for one in group):
        first.setdefault(one.route.name, one.route)
    return VirtualHost(hostname=hostname, routes=tuple(first.values()))


def visible(routes: Iterable[MeshRoute], namespace: str | None) -> tuple[MeshRoute, ...]:
    """Return what clients of *namespace* go by: its consumer routes, else the producer routes.

    Groups are never mixed: what consumer routes do not match is answered with 404.

    Args:
        routes: all routes on one port of a Service.
        namespace: of the clients; None for those of namespaces without routes of their own.
    """
    every = tuple(routes)
    own = tuple(
        one for one in every if one.role is MeshRole.CONSUMER and one.namespace == namespace
    )
    return own or tuple(one for one in every if one.role is MeshRole.PRODUCER)


def service_virtual_host(routes: Iterable[MeshRoute], namespace: str | None) -> VirtualHost | None:
    """Return what clients of *namespace* see on one port of a Service; None if nothing governs it.

    Hostnames do not matter on a Service: the connection says where it goes.
    """
    seen = visible(routes, namespace)
    return virtual_host(ANY, [one.ranked for one in seen]) if seen else None


def _sorted(routes: Iterable[RankedRoute]) -> tuple[RankedRoute, ...]:
    return tuple(sorted(routes, key=attrgetter("rank")))
