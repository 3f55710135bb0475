"""Short forms of conditions."""

from __future__ import annotations

from penstock.meta.conditions import Condition


def holds(name: str, reason: str, generation: int, message: str = "") -> Condition:
    """Return condition *name* with status True for an object of *generation*."""
    return Condition(
        type=name, status=True, reason=reason, message=message, observed_generation=generation
    )


def fails(name: str, reason: str, generation: int, message: str = "") -> Condition:
    """Return condition *name* with status False for an object of *generation*."""
    return Condition(
        type=name, status=False, reason=reason, message=message, observed_generation=generation
    )


def unknown(name: str, generation: int, message: str) -> Condition:
    """Return condition *name* with status Unknown for an object of *generation*."""
    return Condition(
        type=name, status=None, reason="Pending", message=message, observed_generation=generation
    )
