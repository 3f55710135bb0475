"""The peer members of a rule (fromEndpoints, toEntities, ...) under their names on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.core.plan import plan_of

if TYPE_CHECKING:
    from penstock.policy.resources import AnyRule

_NOT_PEERS = frozenset({"toPorts", "icmps", "authentication"})


def peer_members(rule: AnyRule) -> dict[str, tuple[object, ...] | None]:
    """Return every L3 member of *rule* by its name on the wire; None if absent."""
    return {
        field.wire: getattr(rule, field.attribute)
        for field in plan_of(type(rule)).fields.values()
        if field.wire not in _NOT_PEERS
    }


def is_deny(rule: AnyRule) -> bool:
    """Return whether *rule* denies: only rules that allow can ask for authentication."""
    return "authentication" not in plan_of(type(rule)).fields
