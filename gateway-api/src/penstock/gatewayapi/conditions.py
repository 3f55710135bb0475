"""Short forms of conditions."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.meta.conditions import Condition

SHOWN = 10
"""So many of a kind are named in one message."""


def listed(names: Sequence[str]) -> str:
    """Return *names* for a message: the first ones, and how many there are besides."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


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
