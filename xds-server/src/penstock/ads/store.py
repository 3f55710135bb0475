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

    def forgo(self, node_id: str) -> None:
        """Take that who has asked for a snapshot goes away before it subscribes."""
        ...


class _Node:
    def __init__(self, base: Snapshot) -> None:
        self.snapshot = Snapshot(over=base)
        self.complete = asyncio.Event()
        self.subscribers: dict[int, Subscriber] = {}
        self.serial = 0

    def tell(self, changed: Delta) -> None:
        if changed:
            for subscriber in tuple(self.subscribers.values()):
                subscriber(changed)


class SnapshotStore:
    """One snapshot for each node, filled by its owner; all on one event loop.

    What every node has is held once: a node costs what it has of its own.
    """

    def __init__(self) -> None:
        """Start with no node complete."""
        self._base = Snapshot()
        self._nodes: dict[str, _Node] = {}

    def peek(self, node_id: str) -> Snapshot:
        """Return the snapshot of a node as it is, complete or not."""
        return self._node(node_id).snapshot

    async def snapshot_for(self, node_id: str) -> Snapshot:
        """See SnapshotSource."""
        node = self._node(node_id)
        await node.complete.wait()
        return node.snapshot

    def forgo(self, node_id: str) -> None:
        """See SnapshotSource."""

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
        """Change what a node has of its own, which is complete from now on; return what it sees."""
        node = self._node(node_id)
        changed = node.snapshot.apply(delta)
        node.tell(changed)
        node.complete.set()
        return changed

    def look_again(self, node_id: str) -> None:
        """Have the streams of a node look for what to send, though the snapshot is as it was."""
        for subscriber in tuple(self._node(node_id).subscribers.values()):
            subscriber(Delta())

    def apply_to_all(self, delta: Delta) -> Delta:
        """Change what every node has, also those to come; return what really changed.

        A node has a resource of its own rather than one of the same name that every node has.
        """
        changed = self._base.apply(delta)
        if changed:
            for node in self._nodes.values():
                if node.subscribers:
                    node.tell(node.snapshot.seen(changed))
        return changed

    def replace(self, node_id: str, resources: Iterable[Resource]) -> Delta:
        """Make a node have exactly *resources* of its own; return what it sees of that."""
        return self.apply(node_id, self._node(node_id).snapshot.difference(resources))

    def drop(self, node_id: str) -> bool:
        """Forget a node; return False if it has something of its own, or somebody follows it."""
        node = self._nodes.get(node_id)
        if node is not None and (node.subscribers or node.snapshot.has_own):
            return False
        self._nodes.pop(node_id, None)
        return True

    def _node(self, node_id: str) -> _Node:
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _Node(self._base)
        return node
