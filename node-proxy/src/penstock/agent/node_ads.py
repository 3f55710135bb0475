"""The node's ADS server: serves Envoy from the view, takes its verdicts and its access log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from pathlib import Path

from penstock.ads.connection import NoHooks
from penstock.ads.reports import EnvoyVerdicts
from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.agent.access_log import AccessLogService
from penstock.agent.envoy_view import EnvoyView
from penstock.agent.withdrawn import Withdrawn
from penstock.meta.clock import Clock
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Cleared, Rejection

ENVOY_SECONDS = 10.0
"""How long controllers may wait for the word of an Envoy that starts or comes back."""
RETRY_SECONDS = 30.0
"""After which it is looked whether a port of a Gateway is free."""


class NodeAds(NoHooks):
    """ADS and the access log service on one unix socket."""

    def __init__(
        self,
        node: str,
        *,
        store: SnapshotStore,
        view: EnvoyView,
        access_log: AccessLogService,
        clock: Clock,
    ) -> None:
        """Serve the snapshot of *node* in *store*, which *view* fills."""
        self._node = node
        self._store = store
        self._view = view
        self._clock = clock
        self._verdicts = EnvoyVerdicts(patience=ENVOY_SECONDS)
        self._stream: DeltaStream | None = None
        self._heard = asyncio.Event()
        self._withdrawn = Withdrawn()
        self._server = AdsServer(
            store,
            clock,
            hooks=self,
            extra_handlers=(access_log.handlers(),),
            stand_in=self._stand_in,
        )

    @property
    def connected(self) -> bool:
        """Return whether Envoy has a stream."""
        return self._stream is not None

    async def start(self, socket: Path) -> None:
        """Listen."""
        await self._server.start(socket)

    async def stop(self) -> None:
        """End the streams; Envoy keeps what it has."""
        await self._server.stop()

    async def run(self) -> None:
        """Until cancelled: offer listeners again that somebody else's socket was in the way of."""
        while True:
            await self._clock.sleep(RETRY_SECONDS)
            refused = self._view.offer_again()
            if self._stream is not None:
                for key in refused:
                    self._stream.retry(key)
                self._store.look_again(self._node)

    def reports(self) -> AsyncGenerator[node_pb2.NodeReport]:
        """Return what is in force here, for a controller: everything, then each change."""
        return self._verdicts.reports(self._node)

    def carried(self, delta: Delta) -> None:
        """Take what went into the kernel, or to Envoy, for the reports."""
        self._verdicts.hold(delta)

    def unreadable(self, resource: Resource, detail: str) -> None:
        """Take what the agent itself refuses, for the reports."""
        rejection = Rejection(resource.key, resource.version, resource.origins, detail)
        self._verdicts.on_reject(self._node, rejection)

    async def settled(self, keys: Collection[ResourceName], *, seconds: float) -> bool:
        """Return when Envoy has said its word on the present versions of *keys*.

        False if it has not after *seconds*. An Envoy that is away says nothing and is not waited
        for: it opens no listener before it has all.
        """
        try:
            async with asyncio.timeout(seconds):
                while not self._settled(keys):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return False
        return True

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Take Envoy's stream; a new one takes the place of an older."""
        if node != self._node:
            return
        self._stream = stream
        self._verdicts.on_connect(node, stream)
        self._repeat_rejections()
        self._view.on_connect()

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """Note that Envoy is away."""
        if stream is self._stream:
            self._stream = None
        self._verdicts.on_disconnect(node, stream)
        self._heard.set()

    def on_ack(self, node: str, accepted: Accepted) -> None:
        """Note what Envoy runs."""
        if node == self._node:
            self._view.on_verdict(accepted)
            self._verdicts.on_ack(node, accepted)
            self._repeat_rejections()
            self._heard.set()

    def on_reject(self, node: str, rejection: Rejection) -> None:
        """Note what Envoy refuses."""
        if node == self._node:
            self._verdicts.on_reject(node, rejection)
            self._view.on_verdict(rejection)
            self._heard.set()

    def on_clear(self, node: str, cleared: Cleared) -> None:
        """Note that a refusal does not matter any more, if it is not ours."""
        if node == self._node:
            self._verdicts.on_clear(node, cleared)
            self._repeat_rejections()
            self._heard.set()

    def _stand_in(self, key: ResourceName) -> bytes:
        """Return what Envoy gets in place of a key, unless an older version may need it."""
        return b"" if self._view.rejections else self._withdrawn.in_place_of(key)

    def _settled(self, keys: Collection[ResourceName]) -> bool:
        return self._stream is None or all(map(self._stream.settled, keys))

    def _repeat_rejections(self) -> None:
        """Go on to report what the view holds back; its last good version is accepted instead."""
        known = {rejection.key for rejection in self._verdicts.rejections}
        for key, rejection in self._view.rejections.items():
            if key not in known:
                self._verdicts.on_reject(self._node, rejection)
