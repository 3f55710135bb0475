"""Resources on their way through the node: into the store, to Envoy, into the kernel.

They go in the order in which the controller sent them. The kernel gets what concerns it when Envoy
has answered to what came before: a verdict that sends connections to Envoy finds the listener and
the routes there, and what Envoy is about to lose is no longer asked of it, on open connections
neither. Envoy is waited for only
so long: a cluster that cannot warm must not hold up a denial.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

import structlog
from google.protobuf import message

from penstock.agent.datapath import Affected, NodeDatapath
from penstock.agent.envoy_view import EnvoyView
from penstock.agent.node_resources import decode
from penstock.agent.store import NodeStore
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta

ENVOY_PATIENCE = 0.5
"""Seconds for which the kernel's part waits for Envoy."""

log = structlog.get_logger(__name__)


async def _at_once() -> None:
    """Wait for nothing."""


class Settling(Protocol):
    """Knows what Envoy has answered."""

    async def settled(self, keys: Collection[ResourceName], *, seconds: float) -> bool:
        """Return when Envoy has said its word on *keys*; False after *seconds*."""
        ...


class Pipeline:
    """One queue for all resources of the node."""

    def __init__(
        self,
        *,
        store: NodeStore,
        view: EnvoyView,
        datapath: NodeDatapath,
        envoy: Settling,
        on_affected: Callable[[Affected], None] = lambda _: None,
        swept: Callable[[], Awaitable[None]] = _at_once,
        on_change: Callable[[], None] = lambda: None,
        on_told: Callable[[str], None] = lambda _: None,
        on_synced: Callable[[], None] = lambda: None,
        on_carried: Callable[[Delta], None] = lambda _: None,
        on_unreadable: Callable[[Resource, str], None] = lambda _, __: None,
    ) -> None:
        """Join the parts.

        Args:
            store: keeps everything.
            view: what Envoy is served.
            datapath: what the kernel enforces.
            envoy: what Envoy has answered.
            on_affected: is told whose connections may have another verdict now.
            swept: returns when such connections have ended.
            on_change: is told when something reached Envoy's view or the kernel.
            on_told: is told the type of each response of the controller that has arrived.
            on_synced: is told once, when the controller has sent everything.
            on_carried: is told what reached Envoy's view or the kernel.
            on_unreadable: is told what is left out, and why.
        """
        self._store = store
        self._view = view
        self._datapath = datapath
        self._envoy = envoy
        self._on_affected = on_affected
        self._swept = swept
        self._on_change = on_change
        self._on_told = on_told
        self._on_synced = on_synced
        self._on_carried = on_carried
        self._on_unreadable = on_unreadable
        self._to_sync = {*types.SENDING_ORDER, types.WHOLE}
        self._queue: asyncio.Queue[tuple[str, Delta]] = asyncio.Queue()
        self._unsettled: set[ResourceName] = set()

    def restore(self) -> None:
        """Put what an earlier agent stored into Envoy's view and the kernel, without waiting."""
        everything = Delta(tuple(self._store.snapshot))
        self._view.apply(everything)
        self._on_affected(self._datapath.apply(everything))
        self._on_carried(everything)

    def versions(self, type_url: str) -> Mapping[str, str]:
        """Return name → version of what the node has, for the controller."""
        return {n: r.version for n, r in self._store.snapshot.of_type(type_url).items()}

    async def take(
        self, type_url: str, resources: Sequence[Resource], removed: Sequence[str]
    ) -> Sequence[str]:
        """Take one response of the controller; return what is wrong with it.

        A resource that cannot be read is left out, and the version before it stays.
        """
        readable: list[Resource] = []
        errors: list[str] = []
        for resource in resources:
            try:
                decode(resource)
            except (message.DecodeError, ValueError) as error:
                errors.append(f"{resource.key}: {error}")
                self._on_unreadable(resource, str(error))
            else:
                readable.append(resource)
        removals = tuple(ResourceName(type_url, name) for name in removed)
        changed = self._store.apply(Delta(tuple(readable), removals))
        self._queue.put_nowait((type_url, changed))
        return errors

    async def run(self) -> None:
        """Carry resources on, in order."""
        while True:
            type_url, delta = await self._queue.get()
            if delta:
                await self.carry(delta)
            self._on_told(type_url)
            if type_url in self._to_sync:
                self._to_sync.discard(type_url)
                if not self._to_sync:
                    self._on_synced()
            self._queue.task_done()

    async def idle(self) -> None:
        """Return when all that was taken has arrived."""
        await self._queue.join()

    async def carry(self, delta: Delta) -> None:
        """Carry one change through; of one type, as a response of the controller is."""
        ours = _part(delta, types.NODE_TYPES)
        theirs = _part(delta, types.ENVOY_TYPES)
        self._view.apply(Delta(theirs.upserts))
        self._on_carried(Delta(theirs.upserts))
        self._unsettled.update(resource.key for resource in theirs.upserts)
        if ours:
            await self._wait_for_envoy()
            self._on_affected(self._datapath.apply(ours))
            self._on_carried(ours)
        if theirs.removals:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._swept(), ENVOY_PATIENCE)
        self._view.apply(Delta((), theirs.removals))
        self._on_carried(Delta((), theirs.removals))
        self._on_change()

    async def _wait_for_envoy(self) -> None:
        """Wait for the answers to all that went to Envoy since the last time."""
        unsettled, self._unsettled = self._unsettled, set()
        if unsettled and not await self._envoy.settled(unsettled, seconds=ENVOY_PATIENCE):
            log.warning("the kernel does not wait longer for envoy", resources=len(unsettled))


def _part(delta: Delta, wanted: Collection[str]) -> Delta:
    upserts = tuple(r for r in delta.upserts if r.type_url in wanted)
    return Delta(upserts, tuple(k for k in delta.removals if k.type_url in wanted))
