"""Objects that are to be looked at and perhaps written, each in its turn, while we may write.

`penstock.status.plan` decides which one is next; here is the waiting, and what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from http import HTTPStatus

import msgspec
import structlog

from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.connection import Answer
from penstock.status.plan import Idle, Plan

_ASKS_FOR_REST = frozenset(
    (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE)
)
"""Answers that are about nothing in particular."""
_IDLE = 60.0
"""Seconds after which a look at the queue costs nothing."""


class Words(msgspec.Struct, frozen=True):
    """How trouble is told."""

    logger: str
    one: str
    """What is written, as "a status"."""
    all: str
    """The same, as "statuses"."""
    hint: str
    """What to do if nothing can be written."""


class WriteQueue:
    """The objects that are marked."""

    def __init__(
        self, clock: Clock, random: Callable[[], float], words: Words, gather: float = 0.0
    ) -> None:
        """Begin without marks.

        Args:
            clock: paces everything.
            random: returns numbers in [0, 1), for jitter.
            words: how trouble is told.
            gather: seconds that a mark waits for others of its object.
        """
        self._clock = clock
        self._plan = Plan(random, gather=gather)
        self._woken = asyncio.Event()
        self._words = words
        self._log = structlog.get_logger(words.logger)
        self._trouble = ""
        self._refusals: dict[ObjectRef, str] = {}
        """What the server says of objects that it does not take."""

    def __len__(self) -> int:
        """Return the number of objects that are marked or being looked at."""
        return len(self._plan)

    def __iter__(self) -> Iterator[ObjectRef]:
        """Yield them, in no order."""
        return iter(self._plan)

    def mark(self, ref: ObjectRef) -> None:
        """Have an object looked at."""
        self._plan.mark(ref, self._clock.monotonic())
        self._woken.set()

    def renew(self, ref: ObjectRef) -> None:
        """Have an object looked at soon that is another one than was not taken."""
        self._plan.renew(ref, self._clock.monotonic())
        self._woken.set()

    def answered(self) -> None:
        """Take that the server does what it is asked about other things."""
        self._plan.answered(self._clock.monotonic())
        self._woken.set()

    def clear(self) -> None:
        """Forget all marks."""
        self._plan.clear()
        self._refusals.clear()

    def refusal(self, ref: ObjectRef) -> str:
        """Return what the server says of an object that it does not take; "" if it does."""
        return self._refusals.get(ref, "")

    def wake(self) -> None:
        """Have `next` ask at once whether we may write."""
        self._woken.set()

    async def next(self, may_write: Callable[[], bool], pause: float) -> ObjectRef:
        """Return the next object once there is one and we may write.

        Args:
            may_write: returns whether a write that begins now is ours to make.
            pause: seconds until that is asked again, if it is not.
        """
        while True:
            self._woken.clear()
            seconds = _IDLE
            if may_write():
                match self._plan.next(self._clock.monotonic()):
                    case Idle(seconds=idle):
                        seconds = min(idle, _IDLE)
                    case ref:
                        return ref
            elif len(self._plan):
                seconds = pause
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        woken = asyncio.create_task(self._woken.wait())
        timer = asyncio.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait({woken, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            timer.cancel()

    def done(self, ref: ObjectRef) -> None:
        """Take that nothing is left to do about an object."""
        self._refusals.pop(ref, None)
        self._plan.done(ref, self._clock.monotonic())
        self._woken.set()  # it may be due again, as after each of the following

    def abandon(self, ref: ObjectRef) -> None:
        """Take that it was not our turn any more."""
        self._plan.abandon(ref, self._clock.monotonic())
        self._woken.set()

    def unreachable(self, ref: ObjectRef, error: Exception) -> None:
        """Take that there was no answer about an object."""
        self._failed(ref, str(error))
        self._woken.set()

    def settle(self, ref: ObjectRef, answer: Answer) -> bool:
        """Take the last answer about an object; return whether nothing is left to do about it."""
        now = self._clock.monotonic()
        said = f"{answer.status} {answer.body.get('message', '')}".strip()
        match answer.status:
            case HTTPStatus.NOT_FOUND if not answer.body:
                # Not the object but the path: its kind is served in another version by now.
                self._plan.refused(ref, now)
            case HTTPStatus.OK | HTTPStatus.CREATED | HTTPStatus.ACCEPTED | HTTPStatus.NOT_FOUND:
                self.done(ref)
                return True
            case HTTPStatus.CONFLICT:
                self._plan.conflict(ref, now)
            case status if status in _ASKS_FOR_REST:
                self._plan.outage(ref, now, answer.wait)
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._failed(ref, said)
            case _:
                self._plan.refused(ref, now)
                self._refuse(ref, said)
        self._woken.set()
        return False

    def _failed(self, ref: ObjectRef, said: str) -> None:
        """Take that the server could not do it, or did not answer."""
        now = self._clock.monotonic()
        if self._plan.failed(ref, now):
            self._refuse(ref, said)
        elif self._plan.is_down(now):
            self.tell(said)

    def _refuse(self, ref: ObjectRef, said: str) -> None:
        """Note why an object is not taken, and log what is new."""
        if self._refusals.get(ref) != said:
            self._log.warning(f"{self._words.one} is refused", object=str(ref), reason=said)
        self._refusals[ref] = said

    def tell(self, trouble: str) -> None:
        """Log a trouble once, and its end."""
        what = f"{self._words.all} cannot be written"
        if trouble and not self._trouble:
            self._log.warning(what, reason=trouble, hint=self._words.hint)
        elif self._trouble and not trouble:
            self._log.info(f"no more: {what}")
        self._trouble = trouble
