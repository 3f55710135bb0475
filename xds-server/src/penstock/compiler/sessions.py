"""Queries about sessions: which backends they cannot stay at."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.compiler.database import Database
from penstock.compiler.endpoints import KernelPort, backends
from penstock.compiler.indexes import ALL, served_as
from penstock.compiler.routing import RouteFor, head, translated
from penstock.envoy.session import gate
from penstock.gatewayapi.attach import ParentKind, kind_of
from penstock.incremental.query import query
from penstock.ir.route import Forward, ServiceBackend, ServicePort
from penstock.meta.names import ObjectRef


@query
def is_empty(db: Database, target: ServicePort) -> bool:
    """Tell whether a Service port has no ready endpoint."""
    return not backends(db, KernelPort(target.service, target.port, "TCP"))


@query
def session_targets(db: Database, name: ObjectRef) -> frozenset[ServicePort]:
    """Return where sessions of a route stay while its weights change."""
    route = head(db, name)
    kinds = {served_as(kind_of(parent)) for parent in (route.parents if route is not None else ())}
    found: set[ServicePort] = set()
    for kind in (ParentKind.SERVICE, ParentKind.GATEWAY):
        made = translated(db, RouteFor(name, kind is ParentKind.SERVICE)) if kind in kinds else None
        for rule in made.rules if made is not None else ():
            action = rule.action
            if isinstance(action, Forward) and action.session is not None:
                backs = (one for one in action.backends if isinstance(one, ServiceBackend))
                found.update(one.target for one in backs)
    return frozenset(found)


@query
def session_gates(db: Database, _: None) -> Mapping[str, int]:
    """Return the runtime keys of backends without endpoints: their sessions begin anew."""
    found: dict[str, int] = {}
    for name in db.routes.bucket("session", ALL):
        for target in session_targets(db, name):
            if is_empty(db, target):
                found[gate(target)] = 0
    return found
