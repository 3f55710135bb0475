"""What a stream waits for, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from penstock.xds.subscription import Sent, Subscription

Waited = Sent | str
"""A response without an answer, or the name of a resource that waits for others."""


class Deadlines:
    """A queue of deadlines; those that no longer matter are skipped."""

    def __init__(self) -> None:
        """Wait for nothing."""
        self._queue: list[tuple[float, int, Subscription, Waited]] = []
        self._ticket = count()

    def add(self, at: float, subscription: Subscription, waited: Waited) -> None:
        """Wait for something of one type until *at*."""
        heappush(self._queue, (at, next(self._ticket), subscription, waited))

    def next(self) -> float | None:
        """Return the next deadline, or None."""
        while self._queue:
            at, _, subscription, waited = self._queue[0]
            if _still_waits(at, subscription, waited):
                return at
            heappop(self._queue)
        return None

    def passed(self, now: float) -> Iterator[tuple[Subscription, Waited]]:
        """Take those that have passed."""
        while self._queue and self._queue[0][0] <= now:
            at, _, subscription, waited = heappop(self._queue)
            if _still_waits(at, subscription, waited):
                yield subscription, waited


def _still_waits(at: float, subscription: Subscription, waited: Waited) -> bool:
    if isinstance(waited, Sent):
        return waited.nonce in subscription.in_flight and not waited.overdue
    return subscription.waiting.get(waited) == at
