"""A source is read before there is anybody to take what comes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from penstock.controlplane.reading import reading
from penstock.core.events import Batch
from penstock.sources.source import Sink, Source

FIRST = Batch(())


class Given:
    """A source that gives one batch and then fails, or says nothing more."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun, self.given = asyncio.Event(), asyncio.Event()
        self.failure = failure

    async def run(self, sink: Sink) -> None:
        self.begun.set()
        await sink(FIRST)
        self.given.set()
        if self.failure is not None:
            raise self.failure
        await asyncio.Event().wait()


async def test_what_came_early_waits_for_who_takes_it() -> None:
    source = Given()
    taken: list[Batch] = []

    async def take(batch: Batch) -> None:
        taken.append(batch)

    async with reading(cast("Source", source)) as begun:
        await source.begun.wait()
        assert not source.given.is_set()
        giving = asyncio.create_task(begun.give_to(take))
        await source.given.wait()
        assert taken == [FIRST]
        giving.cancel()
        await asyncio.wait({giving})


async def test_a_source_that_fails_fails_where_it_is_given_away() -> None:
    async def take(batch: Batch) -> None:
        pass

    source: Any = Given(ValueError("no such folder"))
    with pytest.raises(ValueError, match="no such folder"):
        async with reading(source) as begun:
            await begun.give_to(take)


async def test_nobody_need_take_anything() -> None:
    source: Any = Given()
    async with reading(source):
        await source.begun.wait()
    assert not source.given.is_set()
