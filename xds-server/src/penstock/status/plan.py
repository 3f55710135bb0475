"""Which object is looked at next: fair, and each at most once a second.

An object that may need another status is marked. It is looked at (read, and written if its status
is another one) in the order of marking, a moment later: what nodes say of a change comes just after
the change, and is written with it. One that changes all the time waits its second and then
stands at the end of the queue, so it never delays others.

A server that does not answer, or answers that it cannot, may do so because of one object: one that
is too large, or for whose kind it asks a webhook. So that stops the others only if several objects
fail one after the other and the server does nothing else meanwhile. One that fails on both sides of
something that the server did is to blame itself.
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
FAILURE = BackOff(first=1.0, longest=10.0)
"""The server cannot write one object, and perhaps no other one."""
FAULT = BackOff(first=1.0, longest=60.0)
"""The server cannot write one object, and does other things."""
OUTAGE = BackOff(first=0.5, longest=30.0)
"""The server asks to be left alone."""
DOWN = BackOff(first=0.5, longest=10.0)
"""The server does not do anything."""
SEVERAL = 4
"""Objects that fail in a row when it is the server that does: as many as are looked at together."""
_MANY = 1000
"""Objects that something is noted about before it is looked which of it is still of use."""


class Idle(msgspec.Struct, frozen=True):
    """Nothing to do now."""

    seconds: float
    """Until there is; infinite if nothing is marked."""


class _Door:
    """Closed while nothing at all may be looked at."""

    def __init__(self, back_off: BackOff, random: Callable[[], float]) -> None:
        self.until = float("-inf")
        self._back_off, self._random = back_off, random
        self._closings = 0

    def close(self, now: float, least: float = 0.0) -> None:
        """Stay closed for a while; what was under way together closes it once."""
        if now >= self.until:
            self._closings += 1
            self.until = now + max(least, self._back_off.pause(self._closings, self._random()))

    def forget(self) -> None:
        """Let the next time be the first one; closed it stays."""
        self._closings = 0

    def open(self) -> None:
        """Be open."""
        self._closings, self.until = 0, float("-inf")


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
        """Some of it is of no use any more: see `_marked`."""
        self._marked: dict[ObjectRef, float] = {}
        """Objects, and the time of the entry in the queue that counts."""
        self._busy: set[ObjectRef] = set()
        self._again: set[ObjectRef] = set()
        """Marked while they were being looked at."""
        self._rest: dict[ObjectRef, float] = {}
        """Until when an object is left alone."""
        self._refused: dict[ObjectRef, float] = {}
        """Until when one is left alone that was not taken, unless it becomes another one."""
        self._failures: dict[ObjectRef, int] = {}
        self._answers = 0
        """How often the server did what it was asked."""
        self._failed_at: dict[ObjectRef, int] = {}
        """Objects that failed last, and how many answers there were by then."""
        self._failing: set[ObjectRef] = set()
        """Those that failed since the server last did anything."""
        self._asked_off = _Door(OUTAGE, random)
        self._down = _Door(DOWN, random)
        self._sweep_at = _MANY

    def __len__(self) -> int:
        """Return the number of objects that are marked or being looked at."""
        return len(self._marked) + len(self._busy)

    def __iter__(self) -> Iterator[ObjectRef]:
        """Yield them, in no order."""
        return itertools.chain(self._marked, self._busy)

    @property
    def noted(self) -> int:
        """Return the number of objects of which something is remembered."""
        return len(self._rest)

    def mark(self, ref: ObjectRef, now: float) -> None:
        """Have *ref* looked at."""
        if ref in self._busy:
            self._again.add(ref)
        elif ref not in self._marked:
            self._enqueue(ref, now)

    def renew(self, ref: ObjectRef, now: float) -> None:
        """Have *ref* looked at, which is another object than the one that was not taken."""
        self._refused.pop(ref, None)
        self._failures.pop(ref, None)
        self._failed_at.pop(ref, None)
        if ref in self._busy:
            self._again.add(ref)
        else:
            self._enqueue(ref, now)

    def next(self, now: float) -> ObjectRef | Idle:
        """Return the object to look at; its end must be told by one of the methods below."""
        while self._queue and self._marked.get(self._queue[0][2]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        if not self._queue or len(self._rest) > self._sweep_at:
            self._sweep(now)
        if not self._queue:
            return Idle(float("inf"))
        due = max(self._queue[0][0], self._asked_off.until, self._down.until)
        if due > now:
            return Idle(due - now)
        _, _, ref = heapq.heappop(self._queue)
        del self._marked[ref]
        self._busy.add(ref)
        return ref

    def done(self, ref: ObjectRef, now: float) -> None:
        """Tell that *ref* has the status it should have, or is gone."""
        self._took(now)
        for notes in (self._failures, self._refused, self._failed_at):
            notes.pop(ref, None)
        self._settle(ref, now, now + self._interval)

    def conflict(self, ref: ObjectRef, now: float) -> None:
        """Tell that somebody else wrote *ref* since it was read (409)."""
        self._took(now)
        self._again.add(ref)
        self._settle(ref, now, now + self._pause(ref, CONFLICT))

    def refused(self, ref: ObjectRef, now: float) -> None:
        """Tell that the server does not take the status of *ref*."""
        self._took(now)
        self._retry(ref, now, REFUSAL)

    def failed(self, ref: ObjectRef, now: float) -> bool:
        """Tell that the server did not answer about *ref*, or that it cannot do what was asked.

        Returns whether that is counted as a fault of *ref* itself.
        """
        if self._failed_at.get(ref, self._answers) != self._answers:
            self._retry(ref, now, FAULT)
            return True
        self._failed_at[ref] = self._answers
        self._failing.add(ref)
        if len(self._failing) >= SEVERAL:
            self._down.close(now)
        self._retry(ref, now, FAILURE)
        return False

    def is_down(self, now: float) -> bool:
        """Return whether nothing is looked at because the server does not do anything."""
        return self._down.until > now

    def outage(self, ref: ObjectRef, now: float, least: float = 0.0) -> None:
        """Tell that the server wants to be left alone, for *least* seconds if it says so.

        Looks that were under way together fail together and count once.
        """
        self._asked_off.close(now, least)
        self._again.add(ref)
        self._settle(ref, now, now)

    def abandon(self, ref: ObjectRef, now: float) -> None:
        """Tell that nothing was done about *ref* because it is not our turn any more."""
        self._again.add(ref)
        self._settle(ref, now, now)

    def answered(self, now: float) -> None:
        """Tell that the server does what it is asked, about whatever.

        What failed because it did nothing at all is looked at again at once.
        """
        self._answers += 1
        failing, self._failing = self._failing, set()
        self._down.open()
        if len(failing) >= SEVERAL:
            for ref in failing:
                self._failures.pop(ref, None)
                if self._refused.pop(ref, None) is not None and ref in self._marked:
                    self._enqueue(ref, now)

    def clear(self) -> None:
        """Forget all marks and what was refused; looks under way still end."""
        for notes in (self._marked, self._refused, self._failures, self._failed_at):
            notes.clear()
        self._queue.clear()
        self._again.clear()
        self._failing.clear()

    def _took(self, now: float) -> None:
        self._asked_off.forget()
        self.answered(now)

    def _enqueue(self, ref: ObjectRef, now: float) -> None:
        """Have an object looked at that is not being looked at, no later than it would be."""
        rests = (self._rest.get(ref, now), self._refused.get(ref, now))
        due = max(now + self._gather, *rests)
        if due < self._marked.get(ref, float("inf")):
            self._marked[ref] = due
            heapq.heappush(self._queue, (due, next(self._order), ref))

    def _pause(self, ref: ObjectRef, back_off: BackOff) -> float:
        failures = self._failures[ref] = self._failures.get(ref, 0) + 1
        return back_off.pause(failures, self._random())

    def _retry(self, ref: ObjectRef, now: float, back_off: BackOff) -> None:
        self._refused[ref] = now + self._pause(ref, back_off)
        self._again.add(ref)
        self._settle(ref, now, now)

    def _settle(self, ref: ObjectRef, now: float, rest: float) -> None:
        self._busy.discard(ref)
        self._rest[ref] = rest
        if ref in self._again:
            self._again.discard(ref)
            self._enqueue(ref, now)

    def _sweep(self, now: float) -> None:
        """Drop what was noted about objects that nothing is to be done about."""
        self._rest = {ref: until for ref, until in self._rest.items() if until > now}
        self._sweep_at = max(_MANY, 2 * len(self._rest))
