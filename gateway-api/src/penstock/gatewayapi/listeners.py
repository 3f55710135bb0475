"""Listeners of one Gateway: which can be told apart, which get traffic, their conditions.

Source: Gateway API v1.7, Gateway.spec.listeners ("Distinct Listeners") and ListenerStatus.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.gatewayapi.attach import SERVED, supported_kinds
from penstock.gatewayapi.client_certificates import NO_VALID, ClientCheck
from penstock.gatewayapi.conditions import fails, holds, listed
from penstock.gatewayapi.listener_filters import (
    Asked,
    described,
    reason_of,
    unresolved,
    unsupported_filter,
)
from penstock.gatewayapi.listener_tls import (
    ListenerCertificates,
    checks_clients,
    is_https,
    terminates_tls,
)
from penstock.gatewayapi.requested_addresses import only_inside, out_of_reach, requested
from penstock.gatewayapi.resources import (
    GatewaySpec,
    GatewaySpecAddress,
    Listener,
    RouteGroupKind,
)
from penstock.ir.route import InvalidBackend
from penstock.meta.conditions import Condition

HOSTNAME_CONFLICT = "HostnameConflict"
PROTOCOL_CONFLICT = "ProtocolConflict"

OVERLAPPING = "OverlappingTLSConfig"
INVALID_PARAMETERS = "InvalidParameters"
UNSUPPORTED_ADDRESS = "UnsupportedAddress"
UNSUPPORTED_FILTER = "UnsupportedValue"
PORT_UNAVAILABLE, TOO_MANY = "PortUnavailable", "TooManyListeners"
CERTIFICATE_NOT_VALID = "CertificateNotValid"
"""Condition of ours: clients refuse a certificate because of the date."""

CLASSES = {"HTTP": "HTTP", "HTTPS": "TLS", "TLS": "TLS", "TCP": "TCP", "UDP": "UDP"}
"""What can share a port: plain HTTP, anything with a server name, one TCP and one UDP listener."""
ALONE = ("TCP", "UDP")


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
    by_port: defaultdict[tuple[int, bool], list[Listener]] = defaultdict(list)
    for listener in listeners:
        if listener.protocol in CLASSES:
            by_port[listener.port, listener.protocol == "UDP"].append(listener)
    return {
        name: reason
        for on_port in by_port.values()
        for name, reason in _conflicts_on_port(on_port).items()
    }


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the TLS of a listener; nothing if it has none."""

    certificates: ListenerCertificates | None = None
    overlapping: tuple[str, ...] = ()
    """Listeners that share server names with it."""
    covered: tuple[str, ...] = ()
    """Listeners with names for which a certificate of one of both is good, too."""
    clients: ClientCheck | None = None
    """How clients are checked."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the listeners of a Gateway come to, by their places."""

    tls: Mapping[str, Tls]
    attached_routes: Mapping[str, int] = {}
    """How many accepted routes joined each; none if it is missing."""
    pending: Mapping[str, str] = {}
    """Why the data plane does not serve one yet."""
    refused: Mapping[str, str] = {}
    """What the data plane says that does not take one."""
    taken: Mapping[str, Reason] = {}
    """What keeps one from being accepted that it does not say itself."""
    outer: Reason | None = None
    """Why no Gateway of its class is accepted."""
    asked: Mapping[str, Asked] = {}
    """What the filters of those that have some came to."""


def listener_fault(
    spec: GatewaySpec, listener: Listener, conflict: str | None, clients: ClientCheck | None
) -> Reason | None:
    """Return why *listener* of *spec* is not accepted, None if it is.

    Args:
        spec: of its Gateway.
        listener: the listener.
        conflict: what `conflicts` says of it.
        clients: how clients of its port are checked.
    """
    if conflict is not None:
        text = f"port {listener.port} has another listener that cannot be told from this one"
        return Reason(conflict, text)
    if listener.protocol not in SERVED:
        text = f"protocol {listener.protocol} is not served; use {' or '.join(SERVED)}"
        return Reason("UnsupportedProtocol", text)
    if checks_clients(spec, listener) and (clients is None or not clients.authorities):
        return Reason(NO_VALID, "spec.tls.frontend: no certificate to check those of clients by")
    unsupported = unsupported_filter(listener)
    return Reason(UNSUPPORTED_FILTER, unsupported) if unsupported else None


def gateway_fault(spec: GatewaySpec) -> Reason | None:
    """Return why a Gateway as a whole is not accepted, whatever its listeners; None if it is."""
    if spec.infrastructure is not None and spec.infrastructure.parameters_ref is not None:
        text = "infrastructure.parametersRef: there are no parameters; remove the reference"
        return Reason(INVALID_PARAMETERS, text)
    for index, address in enumerate(spec.addresses):
        text = _address_fault(address)
        if text:
            return Reason(UNSUPPORTED_ADDRESS, f"addresses[{index}]: {text}")
    if spec.addresses and not requested(spec) and not only_inside(spec):
        return Reason(UNSUPPORTED_ADDRESS, "; ".join(map(str, out_of_reach(spec))))
    return None


def listener_status(
    spec: GatewaySpec,
    listener: Listener,
    *,
    generation: int,
    conflict: str | None,
    attached_routes: int,
    tls: Tls,
    asked: Asked = (),
    pending: str | None = None,
    refused: str | None = None,
    outer: Reason | None = None,
) -> ListenerStatus:
    """Return the state of one listener.

    Args:
        spec: of its Gateway.
        listener: the listener.
        generation: of its Gateway.
        conflict: what `conflicts` says of it.
        attached_routes: how many accepted routes joined it.
        tls: what is known of its certificates and server names.
        asked: what its filters came to.
        pending: why it does not get traffic although it is accepted, None if it does.
        refused: why some Envoy does not take it, None if none refuses it.
        outer: what else keeps it from being accepted: the port, or how many there are.
    """
    fault = listener_fault(spec, listener, conflict, tls.clients) or outer
    return ListenerStatus(
        name=listener.name,
        supported_kinds=supported_kinds(listener),
        attached_routes=attached_routes,
        conditions=(
            _accepted(fault, generation),
            _conflicted(conflict, generation),
            _resolved_refs(listener, tls, unresolved(asked), generation),
            _programmed(fault or _closed(tls, asked, refused), pending, generation),
            *_of_tls(listener, tls, fault, generation),
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


def _resolved_refs(
    listener: Listener, tls: Tls, lost: Sequence[InvalidBackend], generation: int
) -> Condition:
    certificates = tls.certificates
    known = supported_kinds(listener)
    wrong = [one.kind for one in listener.allowed_routes.kinds if one not in known]
    if wrong:
        text = f"allowedRoutes.kinds: {', '.join(wrong)} is not served on this listener"
        return fails("ResolvedRefs", "InvalidRouteKinds", generation, text)
    if certificates is not None and certificates.unusable:
        text = "; ".join(map(str, certificates.unusable))
        return fails("ResolvedRefs", certificates.unusable[0].reason, generation, text)
    if is_https(listener) and tls.clients is not None and tls.clients.faults:
        text = "; ".join(f"spec.tls.frontend: {one.message}" for one in tls.clients.faults)
        return fails("ResolvedRefs", tls.clients.faults[0].reason, generation, text)
    if lost:
        return fails("ResolvedRefs", reason_of(lost[0]), generation, described(lost))
    warnings = certificates.warnings if certificates is not None else ()
    return holds("ResolvedRefs", "ResolvedRefs", generation, "; ".join(warnings))


def _closed(tls: Tls, asked: Asked, refused: str | None) -> Reason | None:
    """Return why a listener that is accepted lets nobody in, None if it does."""
    if tls.certificates is not None and not tls.certificates.usable:
        return Reason("Invalid", "without a certificate every handshake is refused")
    if unresolved(asked):
        return Reason("Invalid", "every request is answered with 500: nobody can be asked about it")
    return None if refused is None else Reason("Invalid", refused)


def _programmed(fault: Reason | None, pending: str | None, generation: int) -> Condition:
    if fault is not None:
        reason = "UnsupportedProtocol" if fault.reason == "UnsupportedProtocol" else "Invalid"
        return fails("Programmed", reason, generation, fault.message)
    if pending is not None:
        return fails("Programmed", "Pending", generation, pending)
    return holds("Programmed", "Programmed", generation)


def _of_tls(
    listener: Listener, tls: Tls, fault: Reason | None, generation: int
) -> Iterator[Condition]:
    """Yield conditions that are only there when they are true."""
    if fault is not None or not terminates_tls(listener):
        return
    if tls.overlapping:
        text = f"server names are shared with listener {listed(tls.overlapping)}"
        yield holds(OVERLAPPING, "OverlappingHostnames", generation, text)
    elif tls.covered:
        text = f"a certificate is good for names of listener {listed(tls.covered)}, too"
        yield holds(OVERLAPPING, "OverlappingCertificates", generation, text)
    refused = tls.certificates.refused if tls.certificates is not None else ()
    if refused:
        yield holds(CERTIFICATE_NOT_VALID, "OutOfDate", generation, "; ".join(refused))


def _address_fault(address: GatewaySpecAddress) -> str:
    if address.type != "IPAddress":
        return f"type {address.type} is not supported; use IPAddress"
    try:
        ipaddress.ip_address(address.value or "::")
    except ValueError:
        return f"{address.value!r} is not an IP address"
    return ""


def _conflicts_on_port(listeners: Sequence[Listener]) -> Mapping[str, str]:
    if len(listeners) < 2:  # noqa: PLR2004 - a conflict takes two
        return {}
    if len({CLASSES[one.protocol] for one in listeners}) > 1 or listeners[0].protocol in ALONE:
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
