"""A source that is read before there is anybody to take what comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from penstock.core.events import Batch
from penstock.sources.source import Sink, Source


class Reading:
    """A source that runs; its first batch waits for a sink."""

    def __init__(self, source: Source) -> None:
        """Start to read; needs a running loop."""
        self._sink: asyncio.Future[Sink] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(source.run(self._take))

    async def give_to(self, sink: Sink) -> None:
        """Have *sink* take everything, until cancelled; an error of the source is raised here."""
        self._sink.set_result(sink)
        await self._task

    async def end(self) -> None:
        """Stop to read."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # it was raised where the source was given away, if it was

    async def _take(self, batch: Batch) -> None:
        sink = await asyncio.shield(self._sink)  # who waits may be cancelled alone
        await sink(batch)


@contextlib.asynccontextmanager
async def reading(source: Source) -> AsyncGenerator[Reading]:
    """Read *source* in this block."""
    found = Reading(source)
    try:
        yield found
    finally:
        await found.end()
