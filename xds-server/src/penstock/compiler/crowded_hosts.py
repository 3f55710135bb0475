"""Hostnames that very many routes ask for: what each adds to the scope is built once, and kept.

Elsewhere a scope is built whole whenever it changes, which for few routes is less work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from penstock.compiler.attached import Claim
from penstock.compiler.gateway_ports import GatewayPort
from penstock.gatewayapi.precedence import Rank
from penstock.meta.names import Origin
from penstock.pb.envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from penstock.xds.framing import field
from penstock.xds.resource import ResourceName

CROWD = 64
"""Hostnames that fewer ask for are built whole."""


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


def in_order(every: Iterable[Built]) -> list[Built]:
    """Return routes, the first match first, each once."""
    first: dict[str, Built] = {}
    for one in sorted(every, key=attrgetter("rank")):
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
