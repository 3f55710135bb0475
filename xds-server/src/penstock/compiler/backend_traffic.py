"""Queries about policies for traffic to Services."""

from __future__ import annotations

from typing import Any

from penstock.compiler.database import Database
from penstock.compiler.indexes import ALL
from penstock.gatewayapi import backend_traffic
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.incremental.query import query
from penstock.ir.retry_budget import RetryBudget
from penstock.ir.session import Session
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName


def _policies_for(db: Database, service: NamespacedName) -> list[XBackendTrafficPolicy]:
    found = (db.backend_traffic.get(name) for name in db.backend_traffic.bucket("service", service))
    return [one for one in found if one is not None]


@query
def any_policies(db: Database, _: None) -> bool:
    """Tell whether there is any policy: without one nothing depends on those of a Service."""
    return db.backend_traffic.holds("all", ALL)


@query
def _in_force(db: Database, service: NamespacedName) -> tuple[RetryBudget | None, Session | None]:
    policy = backend_traffic.winner(_policies_for(db, service))
    if policy is None:
        return None, None
    budget = backend_traffic.retry_budget(policy)
    return budget, backend_traffic.session_of(policy, service)


def retry_budget(db: Database, service: NamespacedName) -> RetryBudget | None:
    """Return how many requests to a Service may be repeated; None is as many as ever."""
    return _in_force(db, service)[0] if any_policies(db, None) else None


def session_of(db: Database, service: NamespacedName) -> Session | None:
    """Return the session that clients of a Service have; None is none."""
    return _in_force(db, service)[1] if any_policies(db, None) else None


@query
def traffic_state(
    db: Database, name: NamespacedName
) -> tuple[tuple[dict[str, Any], Condition], ...] | None:
    """Return the targets of a policy, as references, and whether it holds for each."""
    policy = db.backend_traffic.get(name)
    if policy is None:
        return None
    found: list[tuple[dict[str, Any], Condition]] = []
    for target in policy.spec.target_refs:
        key = NamespacedName(name.namespace, target.name)
        others = _policies_for(db, key) if target.is_service else []
        rivals = sorted(o.metadata.name for o in others if backend_traffic.goes_before(o, policy))
        there = db.services.get(key) is not None
        condition = backend_traffic.target_condition(policy, target, rivals, there=there)
        reference = {
            "group": target.group,
            "kind": target.kind,
            "namespace": key.namespace,
            "name": key.name,
        }
        found.append((reference, condition))
    return tuple(found)
