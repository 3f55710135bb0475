"""The controller's state: objects, compiler, snapshots of the nodes."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from penstock.ads.store import SnapshotStore, Subscriber, Unsubscribe
from penstock.compiler.compile import Compiler
from penstock.compiler.lent import Sharing
from penstock.compiler.nodes import EVERY_NODE, serving_nodes
from penstock.compiler.published import NodeChange
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.controlplane.acknowledgements import Acknowledgements, ResourceState
from penstock.core.events import Batch, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.runtime.clock import SystemClock
from penstock.sources.source import Sink
from penstock.xds.snapshot import Snapshot

TURN = 10
"""Roots that are compiled before others may do something: some thousandths of a second."""

_log = structlog.get_logger("penstock.controller")


class World:
    """Takes batches of a source and keeps what each node should have."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, sharing: Sharing | None = None
    ) -> None:
        """Start empty; nobody is served before the first batch.

        Args:
            settings: of the compiler.
            clock: tells how long nodes have been behind; None is the machine's.
            sharing: see Compiler.
        """
        self.compiler = Compiler(settings, sharing)
        self.objects: dict[ObjectRef, Object | Broken] = {}
        self._gone: dict[str, None] = {}
        """Nodes that the cluster does not have any more, for which something is kept."""
        self._asking: Counter[str] = Counter()
        """Streams that have a snapshot and do not follow it yet."""
        self.acknowledgements = Acknowledgements(
            clock or SystemClock(), lambda node: self._gone.update({node: None})
        )
        self.synced = asyncio.Event()
        self._behind = asyncio.Event()
        """Set while a helper has lent what is not compiled here."""
        self._level = asyncio.Event()
        """Set while there is no such thing."""
        self._level.set()
        self.changes = 0
        """How often what nodes get changed."""
        self.batches = 0
        """How many batches were taken."""
        self.on_batch: Callable[[Batch], None] | None = None
        """Told each batch when it is compiled."""
        self._store = SnapshotStore()
        self._served: set[str] = set()
        self._failures: dict[str, str] = {}

    async def take(self, batch: Batch) -> None:
        """Compile a batch and tell the nodes what changed."""
        self.batches += 1
        for event in batch.events:
            unseen = isinstance(event.object, Broken) and event.object.unseen
            if unseen or event.type is EventType.DELETED:
                self.objects.pop(event.object.ref, None)
            else:
                self.objects[event.object.ref] = event.object
        self._spread(self.compiler.apply(batch.events))
        if self.compiler.behind:
            self._level.clear()
            self._behind.set()
        if batch.synced and not self.synced.is_set():
            if not self.compiler.behind:
                _spare_collector()
            self.synced.set()
        if self.on_batch is not None:
            self.on_batch(batch)

    async def catch_up(self) -> None:
        """Compile what a helper has lent, while nodes are served with it, until cancelled."""
        while True:
            await self._behind.wait()
            _log.info("a second process has compiled a part", roots=self.compiler.behind)
            while self.compiler.behind:
                self._spread(self.compiler.catch_up(TURN))
                await asyncio.sleep(0)
            self._behind.clear()
            self._level.set()
            if self.synced.is_set():
                _spare_collector()

    def when_level(self, sink: Sink) -> Sink:
        """Return *sink*, to which batches come when nothing lent is left to compile.

        Else one batch would compile all of it, and everybody would wait.
        """

        async def take(batch: Batch) -> None:
            await self._level.wait()
            await sink(batch)

        return take

    def tell_time(self, now: float) -> None:
        """Take the present time, in seconds since 1970: certificates may be out of date."""
        self._spread(self.compiler.tell_time(int(now)))
        if self.on_batch is not None:
            self.on_batch(Batch(()))

    def tell_refused(self, ref: ObjectRef, why: str) -> None:
        """Take why the API server does not take an object that is generated, "" if it does."""
        self._spread(self.compiler.tell_refused(ref, why))
        if self.on_batch is not None:
            self.on_batch(Batch(()))

    def _spread(self, changes: Sequence[NodeChange]) -> None:
        """Give every node its part of *changes*."""
        self._tell_failures()
        self.changes += bool(changes)
        self.acknowledgements.expect(serving_nodes(self.compiler.db, None))
        for change in changes:
            self.acknowledgements.want(change.node, change.delta)
            if change.node == EVERY_NODE:
                self._store.apply_to_all(change.delta)
            else:
                self._store.apply(change.node, change.delta)
        self._drop_gone()

    def _drop_gone(self) -> None:
        """Forget what was kept for nodes that are gone."""
        for node in tuple(self._gone):
            if node not in self._asking and self._store.drop(node):
                self._served.discard(node)
                del self._gone[node]

    async def snapshot_for(self, node_id: str) -> Snapshot:
        """Return the live snapshot of a node, once everything is synced. See SnapshotSource."""
        await self.synced.wait()
        self._served.add(node_id)
        self._asking[node_id] += 1
        return self._store.peek(node_id)

    def subscribe(self, node_id: str, subscriber: Subscriber) -> Unsubscribe:
        """Tell *subscriber* every change of a node's snapshot. See SnapshotSource."""
        self._gone.pop(node_id, None)
        self.forgo(node_id)
        return self._store.subscribe(node_id, subscriber)

    def forgo(self, node_id: str) -> None:
        """Count one less that has a snapshot and does not follow it yet. See SnapshotSource."""
        if self._asking[node_id] > 1:
            self._asking[node_id] -= 1
        else:
            del self._asking[node_id]

    def size_of(self, node: str) -> int:
        """Return the number of resources in the snapshot of a node that has asked for it."""
        return len(self._store.peek(node)) if node in self._served else 0

    def states(self, node: str) -> list[ResourceState]:
        """Return all resources of a node and what it says of them."""
        return self.acknowledgements.states(node, self.compiler.resources(node))

    def status(self, thing: Object | Broken) -> dict[str, Any] | None:
        """Return the status of one object, with what all nodes say."""
        return status_of(self.compiler.db, thing, self.acknowledgements.acked)

    def _tell_failures(self) -> None:
        now = {name: str(error) for name, error in self.compiler.failures.items()}
        for name in now.keys() - self._failures.keys():
            _log.error(
                "a mistake of ours: the last good version of this stays in force",
                resource=name,
                exc_info=self.compiler.failures[name],
            )
        self._failures = now


def _spare_collector() -> None:
    """Collect garbage from now on, and not in what is there, which stays.

    With 10,000 routes a full look stops everything for more than half a second.
    """
    gc.freeze()
    gc.enable()
