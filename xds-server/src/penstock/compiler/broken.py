"""Statuses of Gateways and ListenerSets that cannot be read: that they are Invalid, and why."""

from __future__ import annotations

from typing import Any

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import ours
from penstock.core.objects import Broken
from penstock.gatewayapi.conditions import fails
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.status import is_ours
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName

SHOWN = 5
"""So many problems are named in one message."""


def broken_conditions(db: Database, thing: Broken) -> tuple[Condition, ...] | None:
    """Return the conditions of a Gateway or ListenerSet that cannot be read.

    It is served nowhere: nothing is known of its listeners for certain. None if it is not ours.
    """
    if not _is_ours(db, thing):
        return None
    more = len(thing.problems) - SHOWN
    texts = [*map(str, thing.problems[:SHOWN]), *([f"and {more} more"] if more > 0 else [])]
    text = "; ".join(texts) or "it cannot be read"
    generation = thing.metadata.generation
    return tuple(fails(name, "Invalid", generation, text) for name in ("Accepted", "Programmed"))


def _is_ours(db: Database, thing: Broken) -> bool:
    """Tell whether what can be read of *thing* leads to a class that we serve."""
    spec = _of(thing.raw, "spec")
    if thing.ref.kind == Gateway.kind:
        class_ = db.gateway_classes.get(NamespacedName("", str(spec.get("gatewayClassName", ""))))
        return class_ is not None and is_ours(class_)
    parent = _of(spec, "parentRef")
    namespace = parent.get("namespace") or thing.metadata.namespace
    return ours.once(db, NamespacedName(str(namespace), str(parent.get("name", "")))) is not None


def _of(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
