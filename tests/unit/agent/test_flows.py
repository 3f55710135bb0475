from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator

from penstock.agent.flows import Flow, FlowFollower, FlowLog, FlowVerdict, Peer
from penstock.ir.policy import Direction


def flow(number: int) -> Flow:
    return Flow(
        time=float(number), node="n", direction=Direction.EGRESS, verdict=FlowVerdict.FORWARDED,
        source=Peer(identity=1), destination=Peer(identity=2), protocol="tcp",
    )  # fmt: skip


def fill(log: FlowLog, count: int) -> None:
    for number in range(count):
        log.append(functools.partial(flow, number))


def times(flows: list[Flow]) -> list[float]:
    return [one.time for one in flows]


def test_the_last_flows_are_kept_and_older_ones_not() -> None:
    log = FlowLog(depth=3)
    fill(log, 5)
    assert times(log.last(10)) == [2, 3, 4]
    assert times(log.last(2)) == [3, 4]
    assert log.last(0) == []
    assert log.total == 5


def test_a_flow_that_nobody_reads_is_never_made() -> None:
    log = FlowLog()
    made: list[int] = []

    def record() -> Flow:
        made.append(1)
        return flow(0)

    log.append(record)
    assert made == []
    log.last(1)
    assert made == [1]


async def test_a_follower_gets_what_comes_after_it_began() -> None:
    log = FlowLog()
    fill(log, 2)
    follower = log.follow()
    fill(log, 2)
    async with asyncio.timeout(30):
        seen = [one.time async for one in _first(follower, 2)]
    assert seen == [0, 1]


async def test_a_slow_follower_loses_the_oldest_and_they_are_counted() -> None:
    log = FlowLog()
    follower = log.follow(depth=2)
    fill(log, 5)
    async with asyncio.timeout(30):
        seen = [one.time async for one in _first(follower, 2)]
    assert seen == [3, 4]
    assert log.dropped == 3
    log.leave(follower)
    fill(log, 5)
    assert log.dropped == 3


async def _first(follower: FlowFollower, count: int) -> AsyncIterator[Flow]:
    left = count
    async for one in follower:
        yield one
        left -= 1
        if left == 0:
            return
