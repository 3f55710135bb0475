"""Hostnames that very many routes ask for: what each adds to the scope is built once, and kept.

Elsewhere a scope is built whole whenever it changes, which for few routes is less work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec

from penstock.compiler.attached import Claim
from penstock.compiler.database import Database
from penstock.compiler.gateway_clusters import needs_of
from penstock.compiler.gateway_ports import GatewayPort
from penstock.compiler.routing import RankedFor, ranked_for
from penstock.compiler.scopes import clusters_of
from penstock.envoy.cluster import Role
from penstock.gatewayapi.hostname import ANY
from penstock.gatewayapi.precedence import Rank
from penstock.incremental.query import query
from penstock.ir.route import VirtualHost
from penstock.meta.names import Origin
from penstock.pb.envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from penstock.xds.framing import field
from penstock.xds.resource import ResourceName

CROWD = 64
"""Hostnames that fewer ask for are built whole."""

Build = Callable[[Database, GatewayPort, VirtualHost], Iterable[route_components_pb2.Route]]
"""Returns what Envoy gets for the routes of a host on a port."""


class Built(msgspec.Struct, frozen=True):
    """One route as it is in a scope."""

    rank: Rank
    name: str
    framed: bytes
    """Fields `routes` of an envoy.config.route.v3.VirtualHost."""
    origin: Origin
    needs: frozenset[ResourceName]


class ClaimAt(msgspec.Struct, frozen=True):
    """Somebody who asks for a hostname on a port of a Gateway."""

    at: GatewayPort
    claim: Claim


def framed(routes: Iterable[route_components_pb2.Route]) -> bytes:
    """Return *routes* as fields of a virtual host."""
    number = route_components_pb2.VirtualHost.ROUTES_FIELD_NUMBER
    return b"".join(field(number, one.SerializeToString(deterministic=True)) for one in routes)


def built_by(build: Build) -> Callable[[Database, GatewayPort, Sequence[Claim]], list[Built]]:
    """Return what returns the routes of those who ask, the first match first, each once."""

    @query
    def of_claim(db: Database, key: ClaimAt) -> tuple[Built, ...]:
        found: list[Built] = []
        for one in ranked_for(db, RankedFor(key.claim.route, key.claim.written, mesh=False)):
            host = VirtualHost(hostname=ANY, routes=(one.route,))
            needs = {*clusters_of(host, Role.GATEWAY), *needs_of(db, key.at.gateway, host)}
            made = framed(build(db, key.at, host))
            found.append(Built(one.rank, one.route.name, made, one.route.origin, frozenset(needs)))
        return tuple(found)

    def of_all(db: Database, at: GatewayPort, claims: Sequence[Claim]) -> list[Built]:
        every = [one for claim in claims for one in of_claim(db, ClaimAt(at, claim))]
        every.sort(key=attrgetter("rank"))
        first: dict[str, Built] = {}
        for one in every:
            first.setdefault(one.name, one)
        return list(first.values())

    return of_all


def assembled(
    made: scoped_route_pb2.ScopedRouteConfiguration, before: bytes, routes: Sequence[Built]
) -> bytes:
    """Return the serialised scope with *routes* in its only virtual host.

    Args:
        made: the scope; of the routes of its virtual host those that go last.
        before: framed routes that go first.
        routes: those between.
    """
    (host,) = made.route_configuration.virtual_hosts
    after = framed(host.routes)
    del host.routes[:]
    body = host.SerializeToString(deterministic=True)
    body += b"".join((before, *(one.framed for one in routes), after))
    config = made.route_configuration
    del config.virtual_hosts[:]
    inner = config.SerializeToString(deterministic=True)
    inner += field(route_pb2.RouteConfiguration.VIRTUAL_HOSTS_FIELD_NUMBER, body)
    made.ClearField("route_configuration")
    number = scoped_route_pb2.ScopedRouteConfiguration.ROUTE_CONFIGURATION_FIELD_NUMBER
    return made.SerializeToString(deterministic=True) + field(number, inner)
