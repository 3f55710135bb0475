"""Several sources as one, for kinds that do not overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.core.events import Batch, Event
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location
from penstock.sources.source import Sink, Source, SourceProblem


class MergedSource:
    """Gives the first batch when every source has given its own. See Source."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Merge *sources*; an object must come from one of them only."""
        self._sources = tuple(sources)

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""
        first: list[Event] = []
        waiting = set(range(len(self._sources)))
        turn = asyncio.Lock()

        async def take(number: int, batch: Batch) -> None:
            async with turn:
                if number in waiting:
                    waiting.remove(number)
                    first.extend(batch.events)
                    if not waiting:
                        await sink(Batch(tuple(first)))
                elif waiting:
                    # Changed again before the others were ready: in order, and still one batch.
                    first.extend(batch.events)
                else:
                    await sink(batch)

        async def follow(number: int, source: Source) -> None:
            await source.run(lambda batch: take(number, batch))

        async with asyncio.TaskGroup() as tasks:
            for number, source in enumerate(self._sources):
                tasks.create_task(follow(number, source))

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present, source by source."""
        return tuple(problem for source in self._sources for problem in source.problems())

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        """Return the place of a JSON path in the source that has *ref*."""
        for source in self._sources:
            place = source.locate(ref, path)
            if place is not None:
                return place
        return None


class WithoutKind:
    """A source without the objects of one kind; its problems are told all the same. See Source."""

    def __init__(self, source: Source, kind: str) -> None:
        """Leave out *kind*."""
        self._source = source
        self._kind = kind

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""

        async def pass_on(batch: Batch) -> None:
            kept = tuple(event for event in batch.events if event.object.ref.kind != self._kind)
            await sink(Batch(kept, batch.synced))

        await self._source.run(pass_on)

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present."""
        return self._source.problems()

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        """Return the place of a JSON path, also of an object that is left out."""
        return self._source.locate(ref, path)
