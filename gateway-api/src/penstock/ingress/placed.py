"""Routes of an Ingress, with their places in it: what users are told is about what they wrote."""

from __future__ import annotations

import msgspec

from penstock.gatewayapi.translation import PlacedRoute, TranslatedRoute
from penstock.ingress.derive import IngressRoute, place_in_ingress
from penstock.ingress.passthrough import IngressStream
from penstock.ir.route import Backend, Forward, ServiceBackend
from penstock.meta.names import ObjectRef, Origin


def as_ingress(route: object, found: TranslatedRoute) -> TranslatedRoute:
    """Return the rules of a route with their places in the Ingress that they come from, if any."""
    if not isinstance(route, IngressRoute | IngressStream):
        return found
    problems = tuple(
        msgspec.structs.replace(one, path=place_in_ingress(route, one.path))
        for one in found.problems
    )
    if isinstance(route, IngressStream):
        return msgspec.structs.replace(found, problems=problems)
    placed = tuple(_placed(route, one) for one in found.routes)
    return msgspec.structs.replace(found, routes=placed, problems=problems)


def _backend(route: IngressRoute, one: Backend, origin: Origin) -> Backend:
    if isinstance(one, ServiceBackend):
        return msgspec.structs.replace(one, origin=origin, upstream=route.upstream)
    return msgspec.structs.replace(one, origin=origin)


def origin_of(ref: ObjectRef, route: object) -> Origin:
    """Return where the route named *ref*, which is no HTTP, comes from for its users."""
    if isinstance(route, IngressStream):
        return Origin(route.ingress, route.places[0])
    return Origin(ref)


def _placed(route: IngressRoute, placed: PlacedRoute) -> PlacedRoute:
    origin = Origin(route.ingress, route.places[placed.position[0]])
    action = placed.route.action
    if isinstance(action, Forward):
        backends: list[Backend] = [_backend(route, one, origin) for one in action.backends]
        action = msgspec.structs.replace(
            action, backends=tuple(backends), idle_timeout_ms=route.idle_timeout_ms
        )
        if action.session is not None and route.affinity is not None:
            session = route.affinity.applied(action.session)
            action = msgspec.structs.replace(action, session=session)
    one = msgspec.structs.replace(placed.route, origin=origin, action=action, guards=route.guards)
    return msgspec.structs.replace(placed, route=one)
