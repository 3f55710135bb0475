"""Problems that show only beside other objects: what objects mean, and what they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from penstock.compiler.attached import settled_attachment
from penstock.compiler.certificates import gateway_certificates, tls_of_listeners
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of_class
from penstock.compiler.indexes import served_as
from penstock.compiler.ingress_problems import ingress_problems
from penstock.compiler.listener_filters import asked_of_gateway
from penstock.compiler.merged_listeners import checks_of_clients
from penstock.compiler.policies import parsed
from penstock.compiler.routing import (
    ParentOf,
    RouteFor,
    head,
    service_attachment,
    translated,
)
from penstock.compiler.selected import selects_nothing, xbackend
from penstock.compiler.shadows import shadows
from penstock.compiler.telemetry import telemetry_problems
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.fields import ParentReference
from penstock.gatewayapi.listener_filters import reason_of, unresolved
from penstock.gatewayapi.listener_tls import ListenerCertificates
from penstock.gatewayapi.requested_addresses import out_of_reach
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.gatewayapi.shadows import problems as shadow_problems
from penstock.gatewayapi.status import gateway_status, is_ours
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.incremental.query import query
from penstock.ingress.resources import Ingress
from penstock.ir.route import InvalidBackend
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem, Severity

_ANY_ADDRESS = "192.0.2.1"
"""Stands for the address that a running Gateway has."""


def problems_of(db: Database, thing: Object | Broken) -> tuple[Problem, ...]:
    """Return what is wrong with an object although it can be read: what it means or refers to."""
    match thing.ref.kind:
        case "CiliumNetworkPolicy":
            policy = parsed.once(db, thing.key)
            return () if policy is None else policy.problems
        case kind if kind in ROUTE_KINDS:
            return route_problems.once(db, thing.ref)
        case "Gateway" if isinstance(thing, Gateway):
            return tuple(_of_gateway(db, thing))
        case _:
            return tuple(_beside_routes(db, thing))


def _beside_routes(db: Database, thing: Object | Broken) -> Iterable[Problem]:
    match thing:
        case XBackend():
            return _of_xbackend(db, thing)
        case XTelemetryPolicy():
            return telemetry_problems(db, thing)
        case Ingress():
            return ingress_problems(db, thing)
        case _:
            return ()


@query
def route_problems(db: Database, name: ObjectRef) -> tuple[Problem, ...]:
    """Return the problems of a route with its rules, backends and parents."""
    return tuple(_of_route(db, name))


def _of_route(db: Database, name: ObjectRef) -> Iterator[Problem]:
    route, known = head(db, name), db.routes.get(name)
    if route is None:
        return
    kinds = {served_as(kind_of(parent)) for parent in route.parents}
    for kind in (ParentKind.GATEWAY, ParentKind.SERVICE):
        rules = translated(db, RouteFor(name, mesh=kind is ParentKind.SERVICE))
        if rules is not None and kind in kinds and not isinstance(known, Broken):
            yield from rules.problems
    behind = {
        one for index in range(len(route.parents)) for one in shadows(db, ParentOf(name, index))
    }
    yield from shadow_problems(sorted(behind))
    for index, parent in enumerate(route.parents):
        problem = _of_parent(db, ParentOf(name, index), parent)
        if problem is not None:
            yield msgspec.structs.replace(problem, path=f"spec.parentRefs[{index}]")


def _of_parent(db: Database, key: ParentOf, parent: ParentReference) -> Problem | None:
    target = target_of(parent, key.route.key)
    accepted: Condition | None
    match kind_of(parent):
        case ParentKind.GATEWAY:
            attached = settled_attachment(db, key)
            if attached is None:
                return _dangling("Gateway", target)
            accepted = attached.accepted
        case ParentKind.LISTENER_SET:
            attached = settled_attachment(db, key)
            if attached is None:
                return _dangling("ListenerSet", target)
            accepted = attached.accepted
        case ParentKind.SERVICE:
            governed = service_attachment(db, key)
            if governed is None or db.services.get(target) is None:
                return _dangling("Service", target)
            accepted = governed.accepted
        case ParentKind.FOREIGN:
            text = f"{parent.kind} is nothing that routes can attach to here"
            return Problem("", text, "name a Gateway or a Service", Severity.WARNING)
    if accepted.status:
        return None
    text = f"{accepted.reason}: {accepted.message}".rstrip(": ")
    return Problem("", text, "the route is not in force there", Severity.WARNING)


def _dangling(kind: str, name: NamespacedName) -> Problem:
    text = f"{kind} {name} does not exist"
    return Problem("", text, f"add the {kind}, or mend the name", Severity.WARNING)


def _of_gateway(db: Database, gateway: Gateway) -> Iterator[Problem]:
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
        attached_routes={},
        addresses=[_ANY_ADDRESS],
        tls=tls_of_listeners.once(db, gateway.key),
        asked=asked,
        clients=checks_of_clients.once(db, gateway.key),
    )
    for index, listener in enumerate(status.listeners):
        resolved = certificates.get(listener.name, ListenerCertificates())
        lost = unresolved(asked.get(listener.name, ()))
        yield from _of_certificates(f"spec.listeners[{index}]", resolved)
        yield from _of_filters(f"spec.listeners[{index}]", lost)
        told = {one.reason for one in resolved.unusable} | set(map(reason_of, lost))
        for bad in _failing(listener.conditions):
            if bad.reason in told:
                continue
            text = f"{bad.reason}: {bad.message}".rstrip(": ")
            yield Problem(
                f"spec.listeners[{index}]", text, "the listener is not served", Severity.WARNING
            )
    yield from _of_options(gateway)
    for one in out_of_reach(gateway.spec):
        yield Problem(one.path, one.message, "there is no such address", Severity.WARNING)
    for bad in _failing(status.conditions)[:1] if not status.listeners else ():
        yield Problem("spec", f"{bad.reason}: {bad.message}", "", Severity.WARNING)


def _of_xbackend(db: Database, backend: XBackend) -> Iterator[Problem]:
    found = xbackend.once(db, backend.key)
    if found is None:
        return
    faults = dict.fromkeys(found.lost)
    closed = isinstance(found.place, Fault)
    if isinstance(found.place, Fault):
        faults[found.place] = None
    for one in faults:
        hint = "nothing is sent there" if closed else "the other certificates are trusted"
        yield Problem(one.path, f"{one.reason}: {one.message}", hint, Severity.WARNING)
    if selects_nothing.once(db, backend.key):
        text, hint = "no pod with these labels is ready", "requests are answered with 503"
        yield Problem("spec.endpointSelector.matchLabels", text, hint, Severity.WARNING)


def _of_options(gateway: Gateway) -> Iterator[Problem]:
    for index, listener in enumerate(gateway.spec.listeners):
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
