"""Listeners of one Gateway: which can be told apart, which get traffic, their conditions.

Source: Gateway API v1.7, Gateway.spec.listeners ("Distinct Listeners") and ListenerStatus.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from penstock.gatewayapi.attach import supported_kinds
from penstock.gatewayapi.conditions import fails, holds, unknown
from penstock.gatewayapi.resources import (
    GatewaySpec,
    GatewaySpecAddress,
    Listener,
    RouteGroupKind,
)
from penstock.meta.conditions import Condition

HOSTNAME_CONFLICT = "HostnameConflict"
PROTOCOL_CONFLICT = "ProtocolConflict"

_CLASSES = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS", "TCP": "TCP"}
"""What can share a port over TCP: plain HTTP, anything with a server name, or one TCP listener."""


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of one listener, as in Gateway.status.listeners."""

    name: str
    supported_kinds: tuple[RouteGroupKind, ...]
    attached_routes: int
    conditions: tuple[Condition, ...]


class Reason(msgspec.Struct, frozen=True):
    """Why something is not accepted: reason and message of the condition."""

    reason: str
    message: str


def conflicts(listeners: Iterable[Listener]) -> dict[str, str]:
    """Return the listeners that cannot be told apart from another one, with the reason.

    There is no winner: all of them are out. UDP has its own ports.
    """
    by_port: defaultdict[int, list[Listener]] = defaultdict(list)
    for listener in listeners:
        if listener.protocol in _CLASSES:
            by_port[listener.port].append(listener)
    return {
        name: reason
        for on_port in by_port.values()
        for name, reason in _conflicts_on_port(on_port).items()
    }


def listener_fault(listener: Listener, conflict: str | None) -> Reason | None:
    """Return why *listener* is not accepted, None if it is."""
    if conflict is not None:
        text = f"port {listener.port} has another listener that cannot be told from this one"
        return Reason(conflict, text)
    if listener.protocol != "HTTP":
        text = f"protocol {listener.protocol} is not served; use HTTP"
        return Reason("UnsupportedProtocol", text)
    if listener.filters is not None and listener.filters.requests:
        return Reason("UnsupportedValue", "filters.requests: filters here are not supported")
    return None


def gateway_fault(spec: GatewaySpec) -> Reason | None:
    """Return why a Gateway as a whole is not accepted, whatever its listeners; None if it is."""
    if spec.infrastructure is not None and spec.infrastructure.parameters_ref is not None:
        text = "infrastructure.parametersRef: there are no parameters; remove the reference"
        return Reason("InvalidParameters", text)
    for index, address in enumerate(spec.addresses):
        text = _address_fault(address)
        if text:
            return Reason("UnsupportedAddress", f"addresses[{index}]: {text}")
    return None


def served_listeners(spec: GatewaySpec) -> tuple[Listener, ...]:
    """Return the listeners that get traffic: the accepted ones of an accepted Gateway."""
    if gateway_fault(spec) is not None:
        return ()
    found = conflicts(spec.listeners)
    return tuple(one for one in spec.listeners if listener_fault(one, found.get(one.name)) is None)


def listener_status(
    listener: Listener,
    *,
    generation: int,
    conflict: str | None,
    attached_routes: int,
    pending: str | None = None,
) -> ListenerStatus:
    """Return the state of one listener.

    Args:
        listener: the listener.
        generation: of its Gateway.
        conflict: what `conflicts` says of it.
        attached_routes: how many accepted routes joined it.
        pending: why it does not get traffic although it is accepted, None if it does.
    """
    fault = listener_fault(listener, conflict)
    return ListenerStatus(
        name=listener.name,
        supported_kinds=supported_kinds(listener) if listener.protocol == "HTTP" else (),
        attached_routes=attached_routes,
        conditions=(
            _accepted(fault, generation),
            _conflicted(conflict, generation),
            _resolved_refs(listener, generation),
            _programmed(fault, pending, generation),
        ),
    )


def _accepted(fault: Reason | None, generation: int) -> Condition:
    if fault is None:
        return holds("Accepted", "Accepted", generation)
    return fails("Accepted", fault.reason, generation, fault.message)


def _conflicted(conflict: str | None, generation: int) -> Condition:
    if conflict is None:
        return fails("Conflicted", "NoConflicts", generation)
    text = "there is no winner among listeners that cannot be told apart"
    return holds("Conflicted", conflict, generation, text)


def _resolved_refs(listener: Listener, generation: int) -> Condition:
    known = supported_kinds(listener)
    wrong = [one.kind for one in listener.allowed_routes.kinds if one not in known]
    if wrong:
        text = f"allowedRoutes.kinds: {', '.join(wrong)} is not served on this listener"
        return fails("ResolvedRefs", "InvalidRouteKinds", generation, text)
    if listener.tls is not None and listener.tls.certificate_refs:
        text = "certificateRefs are not looked up as long as the protocol is not served"
        return unknown("ResolvedRefs", generation, text)
    return holds("ResolvedRefs", "ResolvedRefs", generation)


def _programmed(fault: Reason | None, pending: str | None, generation: int) -> Condition:
    if fault is not None:
        reason = "UnsupportedProtocol" if fault.reason == "UnsupportedProtocol" else "Invalid"
        return fails("Programmed", reason, generation, fault.message)
    if pending is not None:
        return fails("Programmed", "Pending", generation, pending)
    return holds("Programmed", "Programmed", generation)


def _address_fault(address: GatewaySpecAddress) -> str:
    if address.type != "IPAddress":
        return f"type {address.type} is not supported; use IPAddress"
    if address.routability:
        return f"routability {address.routability} is not supported"
    try:
        ipaddress.ip_address(address.value or "::")
    except ValueError:
        return f"{address.value!r} is not an IP address"
    return ""


def _conflicts_on_port(listeners: Sequence[Listener]) -> Mapping[str, str]:
    if len(listeners) < 2:  # noqa: PLR2004 - a conflict takes two
        return {}
    if len({_CLASSES[one.protocol] for one in listeners}) > 1 or listeners[0].protocol == "TCP":
        return {one.name: PROTOCOL_CONFLICT for one in listeners}
    by_hostname: defaultdict[str, list[Listener]] = defaultdict(list)
    for one in listeners:
        by_hostname[one.hostname or ""].append(one)
    return {
        one.name: HOSTNAME_CONFLICT
        if len({each.protocol for each in same}) == 1
        else PROTOCOL_CONFLICT
        for same in by_hostname.values()
        if len(same) > 1
        for one in same
    }
