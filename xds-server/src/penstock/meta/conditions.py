"""Conditions, as Kubernetes objects carry them in their status."""

from __future__ import annotations

import msgspec


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition; the time of transition is the business of whoever writes it.

    Source: Kubernetes API conventions, metav1.Condition.
    """

    type: str
    status: bool | None
    """True, False, or None for Unknown."""
    reason: str
    message: str = ""
    observed_generation: int = 0

    @property
    def status_text(self) -> str:
        """Return "True", "False" or "Unknown"."""
        return "Unknown" if self.status is None else str(self.status)
