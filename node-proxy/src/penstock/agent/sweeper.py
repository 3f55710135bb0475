"""Ends open connections that a change of verdicts does not allow any more."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

from penstock.agent.connections import (
    PodSockets,
    Scope,
    destroy,
    doomed,
    misled,
    policed_legs,
    sockets_of,
)
from penstock.agent.datapath import Affected, NodeDatapath
from penstock.bpf.errors import DatapathError
from penstock.bpf.sockdiag import Connection

SECOND_LOOK = 0.2
"""Seconds after which it is looked again: a connect that was judged just before the change may not
have been in the kernel's list yet."""

log = structlog.get_logger(__name__)


class Sweeper:
    """Looks at the sockets of affected pods, in a thread, and destroys what is doomed."""

    def __init__(
        self,
        datapath: NodeDatapath,
        pods: Callable[[], Mapping[str, Path]],
        *,
        node_netns: Callable[[], Path],
        envoy_cgroups: Callable[[], AbstractSet[int]],
        original: Callable[[int, Connection], tuple[str, int] | None],
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            datapath: who has which address and what holds for it.
            pods: the network namespaces of the local pods, by uid.
            node_netns: where a gateway's connections begin.
            envoy_cgroups: inodes of Envoy's cgroup and of those below it.
            original: what a connection to an egress listener asked for, by the cookie of its
                network namespace.
        """
        self._datapath = datapath
        self._pods = pods
        self._node_netns = node_netns
        self._envoy_cgroups = envoy_cgroups
        self._original = original
        self._pending: set[str] = set()
        self._pending_addresses: set[str] = set()
        self._pending_redirects = False
        self._awake = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.destroyed = 0

    def affected(self, affected: Affected) -> None:
        """Look at these soon; the maps have changed already."""
        self._pending |= affected.pods
        self._pending_addresses |= affected.addresses
        self._pending_redirects |= affected.unproxied
        if self._pending or self._pending_addresses or self._pending_redirects:
            self._quiet.clear()
            self._awake.set()

    async def quiet(self) -> None:
        """Return when all that was told has been looked at once."""
        await self._quiet.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._awake.wait()
            self._awake.clear()
            pods, self._pending = self._pending, set()
            addresses, self._pending_addresses = self._pending_addresses, set()
            unproxied, self._pending_redirects = self._pending_redirects, False
            await self._look(pods, addresses, unproxied=unproxied)
            if not self._awake.is_set():
                self._quiet.set()
            await asyncio.sleep(SECOND_LOOK)
            await self._look(pods, addresses, unproxied=unproxied)

    async def sweep(self, pods: Collection[str], addresses: Collection[str]) -> None:
        """Look at all connections of *pods*, and at those of any local pod with *addresses*."""
        self.destroyed += await asyncio.to_thread(self._sweep, pods, addresses)

    async def sweep_redirects(self, pods: Collection[str]) -> None:
        """Look at the connections of *pods* to their egress listeners."""
        self.destroyed += await asyncio.to_thread(self._sweep_redirects, pods)

    async def _look(
        self, pods: Collection[str], addresses: Collection[str], *, unproxied: bool
    ) -> None:
        await self.sweep(pods, addresses)
        await self.sweep_redirects(self._pods() if unproxied or addresses else pods)

    def _sweep_redirects(self, pods: Collection[str]) -> int:
        known = self._pods()
        return sum(
            self._destroy(uid, known[uid], found)
            for uid in pods
            if uid in known and (found := self._misled(uid, known[uid]))
        )

    def _misled(self, uid: str, netns: Path) -> list[Connection]:
        pod, identity = self._datapath.local.get(uid), self._datapath.enforced_identity(uid)
        if pod is None or identity is None:
            return []
        return misled(
            self._list(netns),
            envoy_cgroups=self._envoy_cgroups(),
            original=functools.partial(self._original, pod.cookie),
            redirects=functools.partial(
                self._datapath.redirects, identity, namespace=self._datapath.namespace_of(uid)
            ),
        )

    def _sweep(self, pods: Collection[str], addresses: Collection[str]) -> int:
        known = self._pods()
        listed = {
            uid: self._list(netns) for uid, netns in known.items() if uid in pods or addresses
        }
        suspects = {
            uid: self._doomed(uid, sockets, {}, () if uid in pods else addresses)
            for uid, sockets in listed.items()
        }
        if not any(suspects.values()):
            return 0
        policed = self._policed(known, listed)
        return sum(
            self._destroy(
                uid, known[uid],
                self._doomed(uid, listed[uid], policed, () if uid in pods else addresses),
            )
            for uid, found in suspects.items()
            if found
        )  # fmt: skip

    def _doomed(
        self,
        uid: str,
        sockets: PodSockets,
        policed: Mapping[tuple[str, int, str, int], int],
        addresses: Collection[str],
    ) -> list[Connection]:
        """Return the doomed connections of a pod; with *addresses* only those with them."""
        identity = self._datapath.enforced_identity(uid)
        if identity is None:  # closed: what it had goes with its policy, not before it has one
            return []
        scope = Scope(
            identity=identity,
            policy=self._datapath.verdicts(identity),
            identity_of=self._datapath.identity_of,
            envoy_cgroups=self._envoy_cgroups(),
            policed=policed,
        )
        found = doomed(sockets, scope)
        return [c for c in found if str(c.remote) in addresses] if addresses else found

    def _policed(
        self, known: Mapping[str, Path], listed: Mapping[str, PodSockets]
    ) -> dict[tuple[str, int, str, int], int]:
        envoys = self._envoy_cgroups()
        legs = policed_legs(self._list(self._node_netns()), envoys)
        for uid, netns in known.items():
            legs |= policed_legs(listed.get(uid) or self._list(netns), envoys)
        return legs

    def _list(self, netns: Path) -> PodSockets:
        try:
            return sockets_of(netns)
        except DatapathError as error:
            log.warning("sockets not listed", netns=str(netns), error=str(error))
            return PodSockets(connections=(), listening=frozenset())

    def _destroy(self, uid: str, netns: Path, connections: list[Connection]) -> int:
        try:
            count = destroy(netns, connections)
        except DatapathError as error:
            log.error("connections not ended", uid=uid, error=str(error))  # noqa: TRY400 - the text says it all
            return 0
        log.info("connections ended", uid=uid, count=count)
        return count
