"""Problems that show only beside other objects: what objects mean, and what they refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from penstock.compiler.attached import settled_attachment
from penstock.compiler.database import Database
from penstock.compiler.indexes import served_as
from penstock.compiler.ingress_problems import ingress_problems
from penstock.compiler.listener_problems import dangling, gateway_problems, listener_set_problems
from penstock.compiler.policies import parsed
from penstock.compiler.policy_problems import (
    backend_tls_problems,
    backend_traffic_problems,
    grant_problems,
    service_problems,
)
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
from penstock.core.kinds import Service
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.fields import ParentReference
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import Gateway, ReferenceGrant
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.gatewayapi.shadows import problems as shadow_problems
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.incremental.query import query
from penstock.ingress.resources import Ingress
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Problem, Severity


def problems_of(db: Database, thing: Object | Broken) -> tuple[Problem, ...]:
    """Return what is wrong with an object although it can be read: what it means or refers to."""
    match thing.ref.kind:
        case "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy":
            policy = parsed.once(db, thing.key)
            return () if policy is None else policy.problems
        case kind if kind in ROUTE_KINDS:
            return route_problems.once(db, thing.ref)
        case _:
            judge = _JUDGES.get(type(thing))
            return () if judge is None else tuple(judge(db, thing))


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
                return dangling("Gateway", target)
            accepted = attached.accepted
        case ParentKind.LISTENER_SET:
            attached = settled_attachment(db, key)
            if attached is None:
                return dangling("ListenerSet", target)
            accepted = attached.accepted
        case ParentKind.SERVICE:
            governed = service_attachment(db, key)
            if governed is None or db.services.get(target) is None:
                return dangling("Service", target)
            accepted = governed.accepted
        case ParentKind.FOREIGN:
            text = f"{parent.kind} is nothing that routes can attach to here"
            return Problem("", text, "name a Gateway or a Service", Severity.WARNING)
    if accepted.status:
        return None
    text = f"{accepted.reason}: {accepted.message}".rstrip(": ")
    return Problem("", text, "the route is not in force there", Severity.WARNING)


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


_JUDGES: Mapping[type[Object | Broken], Callable[[Database, Any], Iterable[Problem]]] = {
    Gateway: gateway_problems,
    ListenerSet: listener_set_problems,
    BackendTLSPolicy: backend_tls_problems,
    XBackendTrafficPolicy: backend_traffic_problems,
    ReferenceGrant: lambda _, grant: grant_problems(grant),
    XBackend: _of_xbackend,
    XTelemetryPolicy: telemetry_problems,
    Ingress: ingress_problems,
    Service: service_problems,
}
"""What finds the problems of kinds that are no routes."""
