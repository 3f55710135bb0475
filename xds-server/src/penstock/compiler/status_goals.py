"""Which statuses may have changed because of other objects, known without looking at all of them.

The status of a route depends on Gateways, Services and grants, that of a Gateway on the routes that
are attached to it. What such a status is made of is a goal for each object that somebody follows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.compiler.attached import attached_routes
from penstock.compiler.backend_statuses import POLICIES, external_basis, policy_basis
from penstock.compiler.broken import is_broken_of_ours
from penstock.compiler.certificates import client_certificate, tls_of_listeners
from penstock.compiler.database import Database
from penstock.compiler.gateway_addresses import ReachedAt, reached_at
from penstock.compiler.gateway_classes import (
    crd_versions,
    drops_routability,
    fault_of,
    knows_routability,
    lacking_kinds,
    lists_bare_features,
    ours,
)
from penstock.compiler.generated_services import why_no_service
from penstock.compiler.ingress_problems import problems_of_ours
from penstock.compiler.ingresses import ingress_status
from penstock.compiler.listener_filters import asked_of_gateway
from penstock.compiler.load_balancers import balanced_status
from penstock.compiler.merged_listeners import checks_of_clients
from penstock.compiler.statuses import (
    ListenerSetBasis,
    accepted_sets,
    listener_set_basis,
    parent_statuses,
)
from penstock.gatewayapi.attach import ParentKind
from penstock.gatewayapi.client_certificates import ClientChecks
from penstock.gatewayapi.listener_filters import Asked
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listener_tls import ClientCertificate
from penstock.gatewayapi.listeners import Reason, Tls
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.incremental.engine import Node
from penstock.incremental.query import Query, query
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem


class StatusGoal(msgspec.Struct, frozen=True):
    """Name of a goal: what the status of one object is made of."""

    ref: ObjectRef

    def __str__(self) -> str:
        """Return the name under which a failure is told."""
        return f"status of {self.ref}"


class GatewayBasis(msgspec.Struct, frozen=True):
    """What other objects bring into the status of a Gateway."""

    attached_routes: dict[str, int]
    reached_at: ReachedAt
    no_service: Reason | None
    accepted_sets: int
    tls: dict[str, Tls]
    clients: ClientChecks
    shown: ClientCertificate | None
    fault: Reason | None
    asked: dict[str, Asked]
    knows_routability: bool
    drops_routability: bool


@query
def gateway_basis(db: Database, name: NamespacedName) -> GatewayBasis | bool:
    """Return what the status of a Gateway is made of; of one that is not read, if it is ours."""
    if ours(db, name) is None:
        return is_broken_of_ours(db, ObjectRef(Gateway.kind, name.namespace, name.name))
    return GatewayBasis(
        attached_routes(db, (ParentKind.GATEWAY, name)),
        reached_at(db, name),
        why_no_service(db, name),
        accepted_sets(db, name),
        tls_of_listeners(db, name),
        checks_of_clients(db, name),
        client_certificate(db, name),
        fault_of(db, name),
        asked_of_gateway(db, name),
        knows_routability(db, None),
        drops_routability(db, None),
    )


@query
def set_basis(db: Database, name: NamespacedName) -> ListenerSetBasis | bool:
    """Return the same for a ListenerSet."""
    ref = ObjectRef(ListenerSet.kind, name.namespace, name.name)
    return listener_set_basis(db, name) or is_broken_of_ours(db, ref)


_ClassBasis = tuple[frozenset[str], tuple[str, ...], bool, bool]


@query
def class_basis(db: Database, _: NamespacedName) -> _ClassBasis:
    """Return what the status of a GatewayClass is made of."""
    return (
        crd_versions(db, None),
        lacking_kinds(db, None),
        knows_routability(db, None),
        lists_bare_features(db, None),
    )


@query
def mesh_basis(db: Database, name: NamespacedName) -> _ClassBasis:
    """Return the same for an XMesh; a goal of its own, as a class may have the same name."""
    return class_basis(db, name)


@query
def ingress_basis(
    db: Database, name: NamespacedName
) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
    """Return what the status of an Ingress, and Events about it, are made of."""
    return ingress_status(db, name), problems_of_ours(db, name)


_BASES: dict[str, Query[Database, NamespacedName, Any]] = {
    "Gateway": gateway_basis,
    "GatewayClass": class_basis,
    "XMesh": mesh_basis,
    "ListenerSet": set_basis,
    "XBackend": external_basis,
    "Ingress": ingress_basis,
    "Service": balanced_status,
}
"""Statuses of other kinds change with their object only."""


class StatusGoals:
    """Objects whose statuses are followed, and which of them may have another one now."""

    def __init__(self, db: Database) -> None:
        """Follow nothing."""
        self._db = db
        self._nodes: dict[ObjectRef, Node] = {}
        self._changed: dict[ObjectRef, None] = {}

    def follow(self, ref: ObjectRef) -> None:
        """Tell from now on when the status of *ref* may have changed."""
        node = None if ref in self._nodes else self._basis(ref)
        if node is not None:
            self._nodes[ref] = node
            self._db.engine.want(node, StatusGoal(ref))

    def _basis(self, ref: ObjectRef) -> Node | None:
        if ref.kind in ROUTE_KINDS:
            return parent_statuses.node(self._db, ref)
        if ref.kind in POLICIES:
            return policy_basis.node(self._db, ref)
        basis = _BASES.get(ref.kind)
        return None if basis is None else basis.node(self._db, ref.key)

    def drop(self, ref: ObjectRef) -> None:
        """Stop following *ref*."""
        node = self._nodes.pop(ref, None)
        self._changed.pop(ref, None)
        if node is not None:
            self._db.engine.unwant(node)

    def clear(self) -> None:
        """Stop following anything."""
        for ref in list(self._nodes):
            self.drop(ref)

    def note(self, goal: StatusGoal) -> None:
        """Take that what a status is made of has changed."""
        self._changed[goal.ref] = None

    def take(self) -> tuple[ObjectRef, ...]:
        """Return the objects that changed since the last call, in the order of their changes."""
        changed, self._changed = self._changed, {}
        return tuple(changed)
