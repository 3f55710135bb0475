"""Nodes that are missed within a moment of each other, told at once.

After an outage of the API server the node controller may miss all nodes, and says so of one after
the other. Told one by one, addresses would move from the first to those that are still Ready, and
back when these are missed, too: connections would end for nothing.
"""

from __future__ import annotations

import asyncio

from penstock.core.events import Batch, Event, EventType
from penstock.core.nodes import Node
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.sources.source import Sink

MOMENT = 2.0
"""Seconds that a node waits for others; it was not heard of for much longer already."""


class MissedNodes:
    """Takes batches, and hands them on; of nodes that were Ready and are missed, a moment later."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        """Hand on to *sink*; `run` does it later, by *clock*."""
        self._sink = sink
        self._clock = clock
        self._ready: set[ObjectRef] = set()
        """Nodes that are Ready, as the sink knows them."""
        self._missed: dict[ObjectRef, Event] = {}
        self._woken = asyncio.Event()

    async def take(self, batch: Batch) -> None:
        """Hand on what need not wait."""
        events = tuple(one for one in batch.events if not self._waits(one))
        if events or not batch.events:
            await self._sink(Batch(events, synced=batch.synced))

    async def run(self) -> None:
        """Hand on what waits, until cancelled."""
        while True:
            await self._woken.wait()
            await self._clock.sleep(MOMENT)
            self._woken.clear()
            missed, self._missed = self._missed, {}
            self._ready -= missed.keys()
            if missed:
                await self._sink(Batch(tuple(missed.values())))

    def _waits(self, event: Event) -> bool:
        node = event.object
        if not isinstance(node, Node):
            return False
        if event.type is not EventType.DELETED and node.missed and node.ref in self._ready:
            self._missed[node.ref] = event
            self._woken.set()
            return True
        self._missed.pop(node.ref, None)
        if event.type is not EventType.DELETED and node.ready:
            self._ready.add(node.ref)
        else:
            self._ready.discard(node.ref)
        return False
