"""The machine's time."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """A `penstock.meta.clock.Clock` that tells the machine's time."""

    def now(self) -> float:
        """Return the wall clock in seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return a clock in seconds that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after *seconds*."""
        await asyncio.sleep(seconds)
