"""Which kind of routes has what several kinds ask for: kinds are never merged.

Source: Gateway API v1.7, GRPCRoute.spec.hostnames: of routes of different kinds that ask a listener
for one hostname, the oldest decides; GEP-1294: on a port of a Service GRPCRoutes go before
HTTPRoutes, these before TLSRoutes, and those before TCPRoutes. Who asks in vain is not accepted
there, and what else the route asks for it keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from penstock.gatewayapi.attach import GatewayAttachment, RouteHead, ServiceAttachment
from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.precedence import Age

CONFLICTED = "Conflicted"
ON_SERVICES = ("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute", "UDPRoute")
"""Kinds on a port of a Service, the one that goes first at the beginning."""


class Place(msgspec.Struct, frozen=True):
    """What a route may ask for at a Gateway."""

    listener: str
    hostname: str


class Owner(msgspec.Struct, frozen=True, order=True):
    """The oldest of those that ask for something: its kind has it."""

    age: Age
    kind: str

    def __str__(self) -> str:
        """Return "Kind namespace/name"."""
        return f"{self.kind} {self.age.name}"


def owner_of(asking: Iterable[RouteHead]) -> Owner | None:
    """Return who has a hostname of a listener; None if not several kinds ask for it."""
    found = [Owner(route.age, route.kind) for route in asking]
    return min(found) if len({one.kind for one in found}) > 1 else None


def settled(
    route: RouteHead, attachment: GatewayAttachment, owned: Mapping[Place, Owner]
) -> GatewayAttachment:
    """Return *attachment* of *route* without the hostnames that another kind has."""
    lost = {
        one.hostname: owner
        for one in attachment.hostnames
        if (owner := owned.get(Place(one.listener, one.hostname))) and owner.kind != route.kind
    }
    if not lost:
        return attachment
    kept = tuple(
        one
        for one in attachment.hostnames
        if (owner := owned.get(Place(one.listener, one.hostname))) is None
        or owner.kind == route.kind
    )
    text = "; ".join(f"{name} is had by {owner}" for name, owner in sorted(lost.items()))
    accepted = (
        holds("Accepted", "Accepted", route.generation, f"{attachment.accepted.message}; {text}")
        if kept
        else fails("Accepted", CONFLICTED, route.generation, text)
    )
    return GatewayAttachment(parent=attachment.parent, hostnames=kept, accepted=accepted)


def first_kind(kinds: Collection[str]) -> str:
    """Return which of *kinds* has a port of a Service, "" of none."""
    for one in ON_SERVICES:
        if one in kinds:
            return one
    return ""


def settled_on_service(
    route: RouteHead, attachment: ServiceAttachment, lost: Mapping[int, str]
) -> ServiceAttachment:
    """Return *attachment* of *route* without *lost*: ports, with the kinds that have them."""
    if not lost:
        return attachment
    kept = tuple(port for port in attachment.ports if port not in lost)
    text = "; ".join(f"port {port} is had by {kind}s" for port, kind in sorted(lost.items()))
    accepted = (
        holds("Accepted", "Accepted", route.generation, f"{attachment.accepted.message}; {text}")
        if kept
        else fails("Accepted", CONFLICTED, route.generation, text)
    )
    return msgspec.structs.replace(attachment, ports=kept, accepted=accepted)
