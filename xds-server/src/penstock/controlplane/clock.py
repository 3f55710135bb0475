"""The real clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Time of this machine. See penstock.meta.clock.Clock."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
