"""Gateways whose GatewayClass is gone: nobody serves them, and nobody else says so.

Whether a class that does not exist was ours cannot be known. So this is written only over a status
that tells of us.
Source: Gateway API, Gateway condition reason Pending.
"""

from __future__ import annotations

from typing import Any

from penstock.compiler.database import Database
from penstock.compiler.written import written
from penstock.gatewayapi.conditions import fails, unknown
from penstock.gatewayapi.resources import Gateway
from penstock.meta.names import NamespacedName, ObjectRef


def status_without_class(db: Database, ref: ObjectRef) -> dict[str, Any] | None:
    """Return what is left to say of a Gateway that has no class any more; None if it has one."""
    gateway = db.gateways.get(ref.key) if ref.kind == Gateway.kind else None
    if gateway is None:
        return None
    wanted = gateway.spec.gateway_class_name
    if db.gateway_classes.get(NamespacedName("", wanted)) is not None:
        return None
    text = f"GatewayClass {wanted} does not exist, so the Gateway is not served"
    generation = gateway.metadata.generation
    conditions = (
        unknown("Accepted", generation, text),
        fails("Programmed", "Pending", generation, text),
    )
    return {
        "addresses": [],
        "conditions": written(conditions),
        "listeners": [],
        "attachedListenerSets": 0,
    }
