"""Fields that a newer API server knows and we do not.

What Kubernetes itself defines was checked by the server: a field that we do not know is newer than
we are, as is every status that a newer kubelet writes. A Pod must not be lost for that. What is
defined by CustomResourceDefinitions stays as it is: there an unknown field is one that a user wrote
and relies on.
"""

from __future__ import annotations

from typing import Any

from penstock.core.objects import Object
from penstock.core.plan import (
    ChoiceShape,
    ListShape,
    MapShape,
    Shape,
    StructShape,
    choose,
    is_clean,
    plan_of,
)
from penstock.sources.registry import group_of

_SERVERS_OWN = frozenset(
    {"", "apiextensions.k8s.io", "apps", "certificates.k8s.io", "discovery.k8s.io"}
)
"""Groups that no CustomResourceDefinition defines, as far as we read them."""
_SERVERS_OWN_KINDS = frozenset({"ServiceCIDR"})
"""Kinds of other groups that are so, and that no user writes."""


def without_newer_fields(kind: type[Object], value: dict[str, Any]) -> dict[str, Any]:
    """Return *value* without fields that are unknown to us, if Kubernetes itself defines *kind*."""
    shape = StructShape(kind)
    if not is_servers_own(kind) or is_clean(shape, value):
        return value
    pruned: dict[str, Any] = _prune(shape, value)
    return pruned


def is_servers_own(kind: type[Object]) -> bool:
    """Return whether Kubernetes itself defines *kind*."""
    return kind.kind in _SERVERS_OWN_KINDS or group_of(kind.api_versions[0]) in _SERVERS_OWN


def _prune(shape: Shape, value: Any) -> Any:
    match shape:
        case StructShape(type=struct) if isinstance(value, dict):
            plan = plan_of(struct)
            return {
                name: _prune(plan.fields[name].shape, one) if name in plan.fields else one
                for name, one in value.items()
                if name in plan.allowed
            }
        case ListShape(item=inner) if isinstance(value, list):
            return [_prune(inner, one) for one in value]
        case MapShape(value=inner) if isinstance(value, dict):
            return {name: _prune(inner, one) for name, one in value.items()}
        case ChoiceShape():
            option = choose(shape, value)
            return value if option is None else _prune(option, value)
        case _:
            return value
