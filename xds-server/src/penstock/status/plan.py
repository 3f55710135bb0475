"""Which object is looked at next: fair, and each at most once a second.

An object that may need another status is marked. It is looked at (read, and written if its status
is another one) in the order of marking, a moment later: what nodes say of a change comes just after
the change, and is written with it. One that changes all the time waits its second and then
stands at the end of the queue, so it never delays others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

import msgspec

from penstock.meta.back_off import BackOff
from penstock.meta.names import ObjectRef

INTERVAL = 1.0
"""Least seconds between two looks at one object, and so between two writes."""
GATHER = 0.2
"""Seconds between a mark and the look, so that one write has what follows."""
CONFLICT = BackOff(first=0.05, longest=2.0)
"""Somebody else wrote at the same time."""
REFUSAL = BackOff(first=1.0, longest=300.0)
"""The server does not take the status of one object."""
OUTAGE = BackOff(first=0.5, longest=30.0)
"""The server does not take anything."""


class Idle(msgspec.Struct, frozen=True):
    """Nothing to do now."""

    seconds: float
    """Until there is; infinite if nothing is marked."""


class Plan:
    """Marked objects and when each may be looked at. Times are monotonic seconds."""

    def __init__(
        self, random: Callable[[], float], interval: float = INTERVAL, gather: float = 0.0
    ) -> None:
        """Start without marks.

        Args:
            random: returns numbers in [0, 1), for jitter.
            interval: least seconds between two looks at one object.
            gather: seconds that a mark waits for others of its object.
        """
        self._random = random
        self._gather = gather
        self._interval = interval
        self._order = itertools.count()
        self._queue: list[tuple[float, int, ObjectRef]] = []
        self._marked: set[ObjectRef] = set()
        self._busy: set[ObjectRef] = set()
        self._again: set[ObjectRef] = set()
        """Marked while they were being looked at."""
        self._rest: dict[ObjectRef, float] = {}
        """Until when an object is left alone."""
        self._failures: dict[ObjectRef, int] = {}
        self._outages = 0
        self._closed_until = float("-inf")

    def __len__(self) -> int:
        """Return the number of objects that are marked or being looked at."""
        return len(self._marked) + len(self._busy)

    def __iter__(self) -> Iterator[ObjectRef]:
        """Yield them, in no order."""
        return itertools.chain(self._marked, self._busy)

    def mark(self, ref: ObjectRef, now: float) -> None:
        """Have *ref* looked at."""
        if ref in self._busy:
            self._again.add(ref)
        elif ref not in self._marked:
            self._marked.add(ref)
            due = max(now + self._gather, self._rest.get(ref, now))
            heapq.heappush(self._queue, (due, next(self._order), ref))

    def next(self, now: float) -> ObjectRef | Idle:
        """Return the object to look at; its end must be told by one of the methods below."""
        if not self._queue:
            self._forget(now)
            return Idle(float("inf"))
        due = max(self._queue[0][0], self._closed_until)
        if due > now:
            return Idle(due - now)
        _, _, ref = heapq.heappop(self._queue)
        self._marked.discard(ref)
        self._busy.add(ref)
        return ref

    def done(self, ref: ObjectRef, now: float) -> None:
        """Tell that *ref* has the status it should have, or is gone."""
        self._outages = 0
        self._failures.pop(ref, None)
        self._settle(ref, now, now + self._interval)

    def conflict(self, ref: ObjectRef, now: float) -> None:
        """Tell that somebody else wrote *ref* since it was read (409)."""
        self._outages = 0
        self._retry(ref, now, CONFLICT)

    def refused(self, ref: ObjectRef, now: float) -> None:
        """Tell that the server does not take the status of *ref*."""
        self._outages = 0
        self._retry(ref, now, REFUSAL)

    def outage(self, ref: ObjectRef, now: float, least: float = 0.0) -> None:
        """Tell that the server takes nothing at present; it wants to be left alone for *least* s.

        Looks that were under way together fail together and count once.
        """
        if now >= self._closed_until:
            self._outages += 1
            pause = max(least, OUTAGE.pause(self._outages, self._random()))
            self._closed_until = now + pause
        self._again.add(ref)
        self._settle(ref, now, now)

    def abandon(self, ref: ObjectRef, now: float) -> None:
        """Tell that nothing was done about *ref* because it is not our turn any more."""
        self._again.add(ref)
        self._settle(ref, now, now)

    def clear(self) -> None:
        """Forget all marks; looks under way still end."""
        self._queue.clear()
        self._marked.clear()
        self._again.clear()

    def _retry(self, ref: ObjectRef, now: float, back_off: BackOff) -> None:
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        self._again.add(ref)
        self._settle(ref, now, now + back_off.pause(failures, self._random()))

    def _settle(self, ref: ObjectRef, now: float, rest: float) -> None:
        self._busy.discard(ref)
        self._rest[ref] = rest
        if ref in self._again:
            self._again.discard(ref)
            self.mark(ref, now)

    def _forget(self, now: float) -> None:
        """Drop what was noted about objects that nothing is to be done about."""
        self._rest = {ref: until for ref, until in self._rest.items() if until > now}
