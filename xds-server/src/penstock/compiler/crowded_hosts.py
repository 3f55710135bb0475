"""Hostnames that very many routes ask for: what each adds to the scope is built once, and kept.

Elsewhere a scope is built whole whenever it changes, which for few routes is less work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from penstock.compiler.attached import Claim
from penstock.compiler.gateway_ports import GatewayPort
from penstock.gatewayapi.precedence import Rank
from penstock.meta.names import Origin
from penstock.pb.envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from penstock.xds.framing import field
from penstock.xds.resource import ResourceName

Order = tuple[Any, ...]
"""A Rank without structs in it: thousands are compared, and this is several times as fast."""


def order_of(rank: Rank) -> Order:
    """Return what sorts as *rank* does, among routes of one kind."""
    age = rank.age
    return (
        *rank.hostname, *rank.path, *rank.conditions, age.created, age.name, *rank.position
    )  # fmt: skip


class Built(msgspec.Struct, frozen=True):
    """One route as it is in a scope."""

    order: Order
    """The smaller goes first."""
    name: str
    framed: bytes
    """Fields `routes` of an envoy.config.route.v3.VirtualHost."""
    origin: Origin
    needs: frozenset[ResourceName]


class ClaimAt(msgspec.Struct, frozen=True):
    """Somebody who asks for a hostname on a port of a Gateway."""

    at: GatewayPort
    claim: Claim


class ClaimsAt(msgspec.Struct, frozen=True):
    """Some of those who ask for a hostname on a port of a Gateway."""

    at: GatewayPort
    claims: tuple[Claim, ...]


class BuiltPortion(msgspec.Struct, frozen=True):
    """What some of those who ask for a hostname add to its scope."""

    routes: tuple[Built, ...]
    """The first match first."""
    origins: frozenset[Origin]
    needs: frozenset[ResourceName]

    @classmethod
    def of(cls, every: Iterable[Built]) -> BuiltPortion:
        """Return what was built, in order and summed up."""
        routes = tuple(sorted(every, key=attrgetter("order")))
        return cls(
            routes,
            frozenset(one.origin for one in routes),
            frozenset(need for one in routes for need in one.needs),
        )


def framed(routes: Iterable[route_components_pb2.Route]) -> bytes:
    """Return *routes* as fields of a virtual host."""
    number = route_components_pb2.VirtualHost.ROUTES_FIELD_NUMBER
    return b"".join(field(number, one.SerializeToString(deterministic=True)) for one in routes)


def in_order(every: Iterable[Built]) -> list[Built]:
    """Return routes, the first match first, each once; what is in order already costs less."""
    first: dict[str, Built] = {}
    for one in sorted(every, key=attrgetter("order")):
        first.setdefault(one.name, one)
    return list(first.values())


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
