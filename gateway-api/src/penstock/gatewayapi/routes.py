"""The kinds of routes, and what they have in common.

To add a kind: its struct, its translator, an entry here, the protocols of listeners that serve it
in `attach.SERVED`, and its place on Services in `contest.ON_SERVICES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock.core.objects import Broken
from penstock.gatewayapi import grpcroute, httproute, streamroute
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.stream_resources import StreamRoute, TCPRoute, TLSRoute, UDPRoute
from penstock.gatewayapi.translation import TranslatedRoute

HttpRoute = HTTPRoute | GRPCRoute
"""A route of requests."""
AnyRoute = HttpRoute | StreamRoute
"""An object that is a route."""

ROUTE_TYPES: tuple[type[AnyRoute], ...] = (HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, UDPRoute)

_TRANSLATORS: Mapping[str, Callable[[Any, References], TranslatedRoute]] = {
    HTTPRoute.kind: httproute.translate,
    GRPCRoute.kind: grpcroute.translate,
    TLSRoute.kind: streamroute.translate,
    TCPRoute.kind: streamroute.translate,
    UDPRoute.kind: streamroute.translate,
}
ROUTE_KINDS = frozenset(_TRANSLATORS)


def translate(route: AnyRoute | Broken, references: References) -> TranslatedRoute:
    """Return the routes of *route*, of whatever kind, and what is to be said about it."""
    return _TRANSLATORS[route.kind](route, references)
