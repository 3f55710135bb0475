"""What an answer about an object means for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.connection import Answer
from penstock.sources.kubernetes.write_queue import Words, WriteQueue
from support.fake_clock import FakeClock

ROUTE = ObjectRef("UDPRoute", "shop", "dns")
GONE = {"kind": "Status", "code": 404, "reason": "NotFound"}


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (Answer(status=200, body={}), False),
        (Answer(status=404, body=GONE), False),
        (Answer(status=404, body={}), True),
        (Answer(status=409, body={}), True),
        (Answer(status=422, body={}), True),
        (Answer(status=500, body={}), True),
    ],
    ids=["good", "gone", "not served in this version", "conflict", "refused", "away"],
)
async def test_an_object_is_looked_at_again_unless_all_is_done(answer: Answer, left: bool) -> None:  # noqa: FBT001 - a parameter
    clock = FakeClock()
    queue = WriteQueue(clock, lambda: 0.5, Words("test", "a thing", "things", "a hint"))
    queue.mark(ROUTE)
    assert await queue.next(lambda: True, 1.0) == ROUTE
    assert queue.settle(ROUTE, answer) is not left
    assert len(queue) == left


End = Callable[[WriteQueue], object]


def _answered(status: int) -> End:
    def end(queue: WriteQueue) -> None:
        queue.settle(ROUTE, Answer(status=status, body={}))

    return end


def _not_answered(queue: WriteQueue) -> None:
    queue.unreachable(ROUTE, OSError("nobody there"))


def _not_ours(queue: WriteQueue) -> None:
    queue.abandon(ROUTE)


def _marked_meanwhile(queue: WriteQueue) -> None:
    queue.mark(ROUTE)
    queue.settle(ROUTE, Answer(status=200, body={}))


ENDS: dict[str, End] = {
    "conflict": _answered(409),
    "pause": _answered(429),
    "cannot": _answered(500),
    "refused": _answered(422),
    "no answer": _not_answered,
    "not ours": _not_ours,
    "marked meanwhile": _marked_meanwhile,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_who_waits_for_the_next_object_hears_that_one_is_due_again(end: End) -> None:
    """Several objects are looked at together, so somebody waits while the last of them is."""
    clock = FakeClock()
    queue = WriteQueue(clock, lambda: 0.5, Words("test", "a thing", "things", "a hint"))
    queue.mark(ROUTE)
    assert await queue.next(lambda: True, 1.0) == ROUTE
    waiting = asyncio.create_task(queue.next(lambda: True, 1.0))
    await _settled()
    end(queue)
    for _ in range(11):
        await _settled()
        clock.advance(0.1)
    await _settled()
    assert waiting.done()
    assert waiting.result() == ROUTE


async def _settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_why_an_object_cannot_be_written_is_known_once_it_is_its_own_fault() -> None:
    clock = FakeClock()
    queue = WriteQueue(clock, lambda: 0.5, Words("test", "a thing", "things", "a hint"))
    queue.mark(ROUTE)
    too_large = Answer(status=500, body={"message": "etcdserver: request is too large"})
    for known in ("", "500 etcdserver: request is too large"):
        assert await queue.next(lambda: True, 1.0) == ROUTE
        queue.settle(ROUTE, too_large)
        assert queue.refusal(ROUTE) == known
        queue.answered()  # as the Lease is renewed meanwhile
        clock.advance(2.0)
    assert await queue.next(lambda: True, 1.0) == ROUTE
    queue.settle(ROUTE, Answer(status=200, body={}))
    assert queue.refusal(ROUTE) == ""
