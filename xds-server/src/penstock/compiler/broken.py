"""Objects that cannot be read: that they are Invalid, why, and whom that concerns."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_our_gateway
from penstock.core.objects import Broken
from penstock.gatewayapi.backend_traffic_policy import MAX_TARGETS
from penstock.gatewayapi.conditions import fails
from penstock.gatewayapi.fields import LocalObjectReference
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.status import is_ours
from penstock.incremental.query import query
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef

SHOWN = 5
"""So many problems are named in one message."""


def broken_conditions(db: Database, thing: Broken) -> tuple[Condition, ...] | None:
    """Return the conditions of a Gateway or ListenerSet that cannot be read.

    It is served nowhere: nothing is known of its listeners for certain. None if it is not ours.
    """
    if not is_broken_of_ours.once(db, thing.ref):
        return None
    return (invalid(thing, "Accepted"), invalid(thing, "Programmed"))


def invalid(thing: Broken, kind: str) -> Condition:
    """Return that *thing* is Invalid, as a condition of the type *kind*."""
    more = len(thing.problems) - SHOWN
    texts = [*map(str, thing.problems[:SHOWN]), *([f"and {more} more"] if more > 0 else [])]
    text = "; ".join(texts) or "it cannot be read"
    return fails(kind, "Invalid", thing.metadata.generation, text)


def targets_of(thing: Broken) -> tuple[LocalObjectReference, ...]:
    """Return the targets of a policy of which no more can be read, each once."""
    given = _of(thing.raw, "spec").get("targetRefs")
    found = (_target(one) for one in (given if isinstance(given, list) else ()))
    return tuple(dict.fromkeys(one for one in found if one is not None))[:MAX_TARGETS]


def _target(value: object) -> LocalObjectReference | None:
    try:
        return msgspec.convert(value, LocalObjectReference)
    except msgspec.ValidationError:
        return None


def leads_to(thing: Broken) -> NamespacedName:
    """Return what can be read of *thing*: the class of a Gateway, the Gateway of a ListenerSet."""
    spec = _of(thing.raw, "spec")
    if thing.ref.kind == Gateway.kind:
        return NamespacedName("", str(spec.get("gatewayClassName", "")))
    parent = _of(spec, "parentRef")
    namespace = parent.get("namespace") or thing.metadata.namespace
    return NamespacedName(str(namespace), str(parent.get("name", "")))


@query
def is_broken_of_ours(db: Database, ref: ObjectRef) -> bool:
    """Tell whether a Gateway or ListenerSet cannot be read, and leads to what we serve."""
    name = db.broken_holders.get(ref)
    if name is None:
        return False
    if ref.kind != Gateway.kind:
        return is_our_gateway(db, name)
    class_ = db.gateway_classes.get(name)
    return class_ is not None and is_ours(class_)


def _of(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
