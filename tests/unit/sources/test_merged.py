"""Several sources look like one."""

from __future__ import annotations

import asyncio

from penstock.core.events import Batch
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location
from penstock.sources.merged import MergedSource, WithoutKind
from penstock.sources.source import Sink, SourceProblem
from support import objects


class ByHand:
    """A source whose batches a test hands over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()

    async def run(self, sink: Sink) -> None:
        while True:
            await sink(await self.batches.get())
            self.batches.task_done()

    def problems(self) -> tuple[SourceProblem, ...]:
        return ()

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        return Location(self.name, 1) if ref.name == self.name and not path else None


def _batch(name: str) -> Batch:
    return Batch(tuple(objects.added([objects.service(name, "10.96.0.1")])))


async def test_nothing_is_told_before_every_source_is_there() -> None:
    one, other = ByHand("one"), ByHand("other")
    told: list[list[str]] = []

    async def sink(batch: Batch) -> None:
        told.append([event.object.key.name for event in batch.events])

    running = asyncio.create_task(MergedSource([one, other]).run(sink))
    one.batches.put_nowait(_batch("a"))
    one.batches.put_nowait(_batch("b"))
    await one.batches.join()
    assert told == []
    other.batches.put_nowait(_batch("c"))
    await other.batches.join()
    one.batches.put_nowait(_batch("d"))
    await one.batches.join()
    assert told == [["a", "b", "c"], ["d"]]
    running.cancel()


def test_the_place_comes_from_the_source_that_knows_it() -> None:
    merged = MergedSource([ByHand("one"), ByHand("other")])
    assert merged.locate(ObjectRef("Service", "shop", "other"), "") == Location("other", 1)
    assert merged.locate(ObjectRef("Service", "shop", "third"), "") is None


async def test_a_kind_can_be_left_out() -> None:
    source = ByHand("one")
    told: list[list[str]] = []

    async def sink(batch: Batch) -> None:
        told.append([event.object.key.name for event in batch.events])

    running = asyncio.create_task(WithoutKind(source, "Pod").run(sink))
    pod = objects.pod("p", "10.244.0.1", {})
    events = objects.added([pod, objects.service("s", "10.96.0.1")])
    source.batches.put_nowait(Batch(tuple(events)))
    await source.batches.join()
    assert told == [["s"]]
    running.cancel()
