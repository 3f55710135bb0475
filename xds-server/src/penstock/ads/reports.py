"""What a node's Envoy says of its resources, on the way from the agent to the controller.

The agent feeds an EnvoyVerdicts with the hooks of its server for Envoy. It keeps the last word on
each resource, so that a new connection to the controller can start with all of it, and the names
that changed since the last report, so that a slow controller costs one mark for a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from penstock.ads.connection import NoHooks
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import ResourceName
from penstock.xds.verdict import Accepted, Cleared, Rejection

_REPORT_RESOURCES = 2_000
"""Resources in one message: some 300 kB."""


class EnvoyVerdicts(NoHooks):
    """The last word of one Envoy on each resource; the hooks of an AdsServer."""

    def __init__(self) -> None:
        """Know nothing."""
        self._versions: dict[ResourceName, str] = {}
        self._rejections: dict[ResourceName, Rejection] = {}
        self._changed: dict[ResourceName, None] = {}
        self._awake = asyncio.Event()

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Return what Envoy refuses."""
        return tuple(self._rejections.values())

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Forget the last stream: what a new one has it says, what was refused is tried again."""
        del node, stream
        for key in [*self._versions, *self._rejections]:
            self._mark(key)
        self._versions.clear()
        self._rejections.clear()

    def on_ack(self, node: str, accepted: Accepted) -> None:
        """Note what Envoy runs."""
        del node
        for name, version in accepted.versions.items():
            key = ResourceName(accepted.type_url, name)
            self._versions[key] = version
            self._clear(key)
        for name in accepted.removed:
            key = ResourceName(accepted.type_url, name)
            self._versions.pop(key, None)
            self._clear(key)

    def on_reject(self, node: str, rejection: Rejection) -> None:
        """Note what Envoy refuses."""
        del node
        self._rejections[rejection.key] = rejection
        self._mark(rejection.key)

    def on_clear(self, node: str, cleared: Cleared) -> None:
        """Note that a refusal does not matter any more."""
        del node
        self._clear(cleared.key)

    async def reports(self, node: str) -> AsyncIterator[node_pb2.NodeReport]:
        """Yield everything, then each change; ends only when it is closed."""
        self._changed.clear()
        every = dict.fromkeys([*self._versions, *self._rejections])
        yield self._report(node, every)
        while True:
            await self._awake.wait()
            self._awake.clear()
            while changed := dict(self._first(_REPORT_RESOURCES)):
                yield self._report(node, changed)

    def _first(self, count: int) -> Iterator[tuple[ResourceName, None]]:
        for key in [key for key, _ in zip(self._changed, range(count), strict=False)]:
            del self._changed[key]
            yield key, None

    def _report(self, node: str, keys: dict[ResourceName, None]) -> node_pb2.NodeReport:
        report = node_pb2.NodeReport(node=node)
        for key in keys:
            rejection = self._rejections.get(key)
            report.resources.add(
                type_url=key.type_url,
                name=key.name,
                version=self._versions.get(key, ""),
                rejected_version="" if rejection is None else rejection.version,
                detail="" if rejection is None else rejection.detail,
            )
        return report

    def _clear(self, key: ResourceName) -> None:
        self._rejections.pop(key, None)
        self._mark(key)

    def _mark(self, key: ResourceName) -> None:
        self._changed[key] = None
        self._awake.set()
