"""Pauses between attempts at something that others share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class BackOff(msgspec.Struct, frozen=True):
    """Pauses that grow with failures in a row: exponential, capped, a share of them random."""

    first: float = 0.1
    """Seconds."""
    longest: float = 10.0
    """Seconds."""
    spread: float = 0.5
    """Share of each pause that is random, up to 1: so many that fail together come back apart."""

    def pause(self, failures: int, random: float) -> float:
        """Return the seconds to wait after *failures* in a row; *random* is in [0, 1)."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return ceiling * (1 - self.spread + self.spread * random)


class Restarts:
    """Pauses before a process is started again; one that lived for long begins anew."""

    def __init__(self, pauses: Sequence[float], stable: float) -> None:
        """Pause for each of *pauses* in turn, then for the last one, in seconds.

        *stable* is the life in seconds after which the first pause comes again.
        """
        self._pauses = tuple(pauses)
        self._stable = stable
        self._short_lives = 0

    def pause(self, lived: float) -> float:
        """Return the seconds to wait after a life of *lived* seconds."""
        if lived >= self._stable:
            self._short_lives = 0
        pause = self._pauses[min(self._short_lives, len(self._pauses) - 1)]
        self._short_lives += 1
        return pause
