"""What the writer of statuses is told; a real one writes in tests/kube."""

from __future__ import annotations

import asyncio
from typing import cast

from penstock.compiler.settings import Settings
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.core.events import Batch, Event, EventType
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.status_writer import StatusWriter
from support import objects
from support.fake_clock import FakeClock


class FakeWriter:
    """Leads at once, and remembers what it is told to look at."""

    def __init__(self, feed: StatusFeed) -> None:
        self._feed = feed
        self.objects = None
        self.marks: list[tuple[ObjectRef, str]] = []
        self.leads = asyncio.Event()

    async def run(self) -> None:
        self._feed.statuses.leading(True)
        self.leads.set()

    def mark(self, ref: ObjectRef, version: str = "") -> None:
        self.marks.append((ref, version))


async def test_the_writer_hears_of_an_object_that_is_gone_so_that_it_keeps_nothing_of_it() -> None:
    world = World(Settings())
    route = objects.http_route("front", parent={"name": "gw"}, backends=[("front", 1)])
    await world.take(Batch(tuple(objects.added([objects.gateway_class(), route]))))
    feed = StatusFeed(world, FakeClock(), dict)
    writer = FakeWriter(feed)
    task = asyncio.create_task(feed.run(cast("StatusWriter", writer)))
    try:
        async with asyncio.timeout(5):
            await writer.leads.wait()
        writer.marks.clear()
        await world.take(Batch((Event(EventType.DELETED, route),)))
        assert (route.ref, "") in writer.marks
        assert feed.desired(route.ref) is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
