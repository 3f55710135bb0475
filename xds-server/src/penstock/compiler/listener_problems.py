"""Problems of Gateways and ListenerSets that show only beside other objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock.compiler.certificates import gateway_certificates, tls_of_listeners
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of_class
from penstock.compiler.listener_filters import asked_of_gateway
from penstock.compiler.merged_listeners import checks_of_clients
from penstock.compiler.statuses import listener_set_basis
from penstock.gatewayapi.listener_filters import reason_of, unresolved
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listener_set_status import listener_set_status
from penstock.gatewayapi.listener_tls import ListenerCertificates
from penstock.gatewayapi.listeners import ListenerStatus, Surroundings, Tls
from penstock.gatewayapi.requested_addresses import out_of_reach
from penstock.gatewayapi.resources import Gateway, Listener
from penstock.gatewayapi.status import gateway_status, is_ours
from penstock.ir.route import InvalidBackend
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem, Severity

_ANY_ADDRESS = "192.0.2.1"
"""Stands for the address that a running Gateway has."""


def gateway_problems(db: Database, gateway: Gateway) -> Iterator[Problem]:
    """Yield what is wrong with a Gateway and its listeners."""
    name = gateway.spec.gateway_class_name
    class_ = db.gateway_classes.get(NamespacedName("", name))
    if class_ is None:
        text = f"GatewayClass {name} does not exist"
        hint = "without it nobody serves the Gateway"
        yield Problem("spec.gatewayClassName", text, hint, Severity.WARNING)
        return
    if not is_ours(class_):
        return
    fault = fault_of_class.once(db, name)
    if fault is not None:
        hint = "the Gateway is not served; see the GatewayClass"
        yield Problem("spec.gatewayClassName", fault.message, hint, Severity.WARNING)
    certificates = gateway_certificates.once(db, gateway.key)
    asked = asked_of_gateway.once(db, gateway.key)
    status = gateway_status(
        gateway,
        Surroundings(tls=tls_of_listeners.once(db, gateway.key), asked=asked),
        addresses=[_ANY_ADDRESS],
        of_cluster=[_ANY_ADDRESS],
        clients=checks_of_clients.once(db, gateway.key),
    )
    for index, listener in enumerate(status.listeners):
        lost = unresolved(asked.get(listener.name, ()))
        resolved = certificates.get(listener.name, ListenerCertificates())
        yield from _of_listener(f"spec.listeners[{index}]", listener, resolved, lost)
    yield from _of_options(gateway.spec.listeners)
    for one in out_of_reach(gateway.spec):
        yield Problem(one.path, one.message, "there is no such address", Severity.WARNING)
    for bad in _failing(status.conditions)[:1] if not status.listeners else ():
        yield Problem("spec", f"{bad.reason}: {bad.message}", "", Severity.WARNING)


def listener_set_problems(db: Database, added: ListenerSet) -> Iterator[Problem]:
    """Yield what is wrong with a ListenerSet and its listeners."""
    if added.gateway is None:
        text = f"{added.spec.parent_ref.kind} takes no listeners"
        yield Problem("spec.parentRef", text, "name a Gateway", Severity.WARNING)
        return
    if db.gateways.get(added.gateway) is None:
        problem = dangling(Gateway.kind, added.gateway)
        yield msgspec.structs.replace(problem, path="spec.parentRef")
        return
    basis = listener_set_basis.once(db, added.key)
    if basis is None:
        return
    if basis.around is None:
        text = f"allowedListeners of Gateway {added.gateway} do not admit this namespace"
        hint = "its listeners are not served; admit it there"
        yield Problem("spec.parentRef", text, hint, Severity.WARNING)
        return
    around = msgspec.structs.replace(basis.around, pending={})
    status = listener_set_status(added, basis.spec, basis.own, around)
    for index, (one, listener) in enumerate(zip(basis.own, status.listeners, strict=True)):
        found = around.tls.get(one.place, Tls()).certificates or ListenerCertificates()
        lost = unresolved(around.asked.get(one.place, ()))
        yield from _of_listener(f"spec.listeners[{index}]", listener, found, lost)
    yield from _of_options(added.spec.listeners)


def dangling(kind: str, name: NamespacedName) -> Problem:
    """Return that somebody refers to what does not exist."""
    text = f"{kind} {name} does not exist"
    return Problem("", text, f"add the {kind}, or mend the name", Severity.WARNING)


def _of_listener(
    path: str,
    listener: ListenerStatus,
    resolved: ListenerCertificates,
    lost: Sequence[InvalidBackend],
) -> Iterator[Problem]:
    yield from _of_certificates(path, resolved)
    yield from _of_filters(path, lost)
    told = {one.reason for one in resolved.unusable} | set(map(reason_of, lost))
    for bad in _failing(listener.conditions):
        if bad.reason not in told:
            told.add(bad.reason)
            text = f"{bad.reason}: {bad.message}".rstrip(": ")
            yield Problem(path, text, "the listener is not served", Severity.WARNING)


def _of_options(listeners: Sequence[Listener]) -> Iterator[Problem]:
    for index, listener in enumerate(listeners):
        if listener.tls is not None and listener.tls.options:
            names = ", ".join(sorted(listener.tls.options))
            place = f"spec.listeners[{index}].tls.options"
            hint = "TLS 1.2 is the oldest version; nothing else can be chosen"
            yield Problem(place, f"{names}: not known, so without effect", hint, Severity.WARNING)


def _of_filters(listener: str, lost: Iterable[InvalidBackend]) -> Iterator[Problem]:
    for one in lost:
        text, hint = f"{reason_of(one)}: {one.message}", "every request is answered with 500"
        yield Problem(f"{listener}.{one.origin.path}", text, hint, Severity.WARNING)


def _of_certificates(listener: str, resolved: ListenerCertificates) -> Iterator[Problem]:
    served = "other certificates serve" if resolved.usable else "handshakes are refused"
    for one in resolved.unusable:
        text = f"{one.reason}: {one.message}"
        yield Problem(f"{listener}.{one.field}", text, served, Severity.WARNING)
    for text in (*resolved.refused, *resolved.warnings):
        hint = "it is served all the same; clients may refuse it"
        yield Problem(f"{listener}.tls.certificateRefs", text, hint, Severity.WARNING)


def _failing(conditions: Iterable[Condition]) -> list[Condition]:
    """Return what is wrong by itself: Programmed only follows from the others."""
    return [
        one
        for one in conditions
        if one.type != "Programmed" and one.status is (one.type == "Conflicted")
    ]
