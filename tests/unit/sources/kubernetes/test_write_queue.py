"""What an answer about an object means for it."""

from __future__ import annotations

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
