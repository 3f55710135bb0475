"""Conditions and references as they are written in statuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from penstock.gatewayapi.fields import GATEWAY_GROUP
from penstock.gatewayapi.resources import CONTROLLER_NAME, Gateway
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName


def condition(one: Condition) -> dict[str, Any]:
    """Return a condition."""
    return {
        "type": one.type,
        "status": one.status_text,
        "reason": one.reason,
        "message": one.message,
        "observedGeneration": one.observed_generation,
    }


def written(conditions: Iterable[Condition]) -> list[dict[str, Any]]:
    """Return conditions."""
    return [condition(one) for one in conditions]


def gateway_ref(name: NamespacedName) -> dict[str, Any]:
    """Return a reference to a Gateway."""
    return {
        "group": GATEWAY_GROUP,
        "kind": Gateway.kind,
        "namespace": name.namespace,
        "name": name.name,
    }


def entries(
    name: str, found: Iterable[tuple[dict[str, Any], Iterable[Condition]]]
) -> list[dict[str, Any]]:
    """Return our entries in a list that controllers share.

    Args:
        name: of the field by which entries are told apart.
        found: what the entries are about, and what is said of it.
    """
    return [
        {name: about, "controllerName": CONTROLLER_NAME, "conditions": written(conditions)}
        for about, conditions in found
    ]
