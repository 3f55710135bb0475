"""Time as an argument."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """A source of time that tests can replace."""

    def now(self) -> float:
        """Return the wall clock in seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Return a clock in seconds that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds* of monotonic time."""
        ...
