"""Pauses between attempts at something that others share."""

from __future__ import annotations

import msgspec


class BackOff(msgspec.Struct, frozen=True):
    """Pauses that grow with failures in a row: exponential, capped, half of them random."""

    first: float = 0.1
    """Seconds."""
    longest: float = 10.0
    """Seconds."""

    def pause(self, failures: int, random: float) -> float:
        """Return the seconds to wait after *failures* in a row; *random* is in [0, 1)."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return ceiling * (0.5 + random / 2)
