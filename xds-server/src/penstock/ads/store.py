"""Where a server gets the snapshot of a node from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from penstock.xds.resource import Resource
from penstock.xds.snapshot import Delta, Snapshot

Subscriber = Callable[[Delta], None]
Unsubscribe = Callable[[], None]


class SnapshotSource(Protocol):
    """What an AdsServer serves."""

    async def snapshot_for(self, node_id: str) -> Snapshot:
        """Return the snapshot of a node, live; wait until it is complete for the first time.

        A client that comes back must not be told that all is gone because the source is starting.
        """
        ...

    def subscribe(self, node_id: str, subscriber: Subscriber) -> Unsubscribe:
        """Tell *subscriber* every change of the node's snapshot, after it was made."""
        ...


class _Node:
    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.complete = asyncio.Event()
        self.subscribers: dict[int, Subscriber] = {}
        self.serial = 0


class SnapshotStore:
    """One snapshot for each node, filled by its owner; all on one event loop."""

    def __init__(self) -> None:
        """Start with no node complete."""
        self._nodes: dict[str, _Node] = {}

    def peek(self, node_id: str) -> Snapshot:
        """Return the snapshot of a node as it is, complete or not."""
        return self._node(node_id).snapshot

    async def snapshot_for(self, node_id: str) -> Snapshot:
        """See SnapshotSource."""
        node = self._node(node_id)
        await node.complete.wait()
        return node.snapshot

    def subscribe(self, node_id: str, subscriber: Subscriber) -> Unsubscribe:
        """See SnapshotSource."""
        node = self._node(node_id)
        node.serial += 1
        serial = node.serial
        node.subscribers[serial] = subscriber

        def unsubscribe() -> None:
            node.subscribers.pop(serial, None)

        return unsubscribe

    def apply(self, node_id: str, delta: Delta) -> Delta:
        """Change a node's snapshot, which is complete from now on; return what really changed."""
        node = self._node(node_id)
        changed = node.snapshot.apply(delta)
        if changed:
            for subscriber in tuple(node.subscribers.values()):
                subscriber(changed)
        node.complete.set()
        return changed

    def replace(self, node_id: str, resources: Iterable[Resource]) -> Delta:
        """Make a node's snapshot hold exactly *resources*; return what really changed."""
        return self.apply(node_id, self._node(node_id).snapshot.difference(resources))

    def _node(self, node_id: str) -> _Node:
        return self._nodes.setdefault(node_id, _Node())
