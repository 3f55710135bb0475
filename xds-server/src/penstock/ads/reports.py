"""What is in force on a node, on the way from the agent to controllers.

The agent feeds an EnvoyVerdicts with the hooks of its server for Envoy, and with what it has put
into force itself. It keeps the last word on each resource, so that each stream of reports can start
with all of it, and for each stream the names that changed since its last report, so that a slow
controller costs one mark for a name.

What Envoy has no use for (routes that none of its listeners names, listeners of pods that are not
here) it does not ask for, and it will never say that it has it. Such a resource is in force as soon
as the agent holds it, once Envoy has its listeners.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

import grpc.aio

from penstock.ads.connection import NoHooks
from penstock.ads.server import REPORT_SERVICE
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import ResourceName
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Cleared, Rejection

BATCH_SECONDS = 0.05
"""Least time between two reports; what changes meanwhile is one."""
LATE_SECONDS = 0.5
"""After which a resource without a verdict is looked at again: Envoy may not want it."""
CALM_SECONDS = 0.1
"""Between two looks whether a new Envoy has its listeners."""
_REPORT_RESOURCES = 2_000
"""Resources in one message: some 300 kB."""

Reports = Callable[[], AsyncGenerator[node_pb2.NodeReport]]
"""Starts one stream of reports: everything first, then what changes."""


async def send_reports(channel: grpc.aio.Channel, reports: Reports) -> None:
    """Send reports until the server ends it.

    Raises:
        grpc.aio.AioRpcError: it is not taken (any more).
    """
    call = channel.stream_unary(
        f"/{REPORT_SERVICE}/Report",
        request_serializer=node_pb2.NodeReport.SerializeToString,
        response_deserializer=node_pb2.ReportSummary.FromString,
    )
    over = asyncio.Event()
    try:
        await call(until(over, reports))
    finally:
        over.set()


async def until(over: asyncio.Event, reports: Reports) -> AsyncIterator[node_pb2.NodeReport]:
    """Yield reports until *over* is set: a call that has ended waits for one more all the same."""
    ending = asyncio.create_task(over.wait())
    try:
        async with contextlib.aclosing(reports()) as stream:
            while True:
                following = asyncio.ensure_future(anext(stream))
                try:
                    await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        return
                    yield following.result()
                finally:
                    following.cancel()
                    await asyncio.wait({following})
    finally:
        ending.cancel()


class _Reader:
    """One stream of reports."""

    def __init__(self) -> None:
        self.changed: dict[ResourceName, None] = {}
        self.late: dict[ResourceName, None] = {}
        """What was, at the last look, not in force in the version that the agent holds."""
        self.awake = asyncio.Event()

    def first(self, count: int) -> list[ResourceName]:
        found = [key for key, _ in zip(self.changed, range(count), strict=False)]
        for key in found:
            del self.changed[key]
        return found

    async def wait(self) -> bool:
        """Return True when something changed, False when it is time to look again."""
        try:
            async with asyncio.timeout(LATE_SECONDS if self.late else None):
                await self.awake.wait()
        except TimeoutError:
            return False
        self.awake.clear()
        return True


class EnvoyVerdicts(NoHooks):
    """The last word on each resource of one node; the hooks of an AdsServer."""

    def __init__(self, *, patience: float = 0.0) -> None:
        """Know nothing.

        *patience* is how many seconds reports wait for a new Envoy to say what it has. Most come
        with all that they had before, and to report that all is gone would worry people.
        """
        self._patience = patience
        self._held: dict[ResourceName, str] = {}
        """Versions that the agent has put into force, or given to Envoy."""
        self._versions: dict[ResourceName, str] = {}
        """Versions that Envoy runs."""
        self._rejections: dict[ResourceName, Rejection] = {}
        self._stream: DeltaStream | None = None
        self._in_doubt = patience > 0
        self._readers: set[_Reader] = set()

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """Return what is refused."""
        return tuple(self._rejections.values())

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Forget the last stream: what a new one has it says, what was refused is tried again."""
        del node
        self._stream = stream
        self._in_doubt = self._patience > 0
        for key in [*self._versions, *self._rejections]:
            self._mark(key)
        self._versions.clear()
        for key in [key for key in self._rejections if key.type_url not in types.NODE_TYPES]:
            del self._rejections[key]

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """Keep the last word of an Envoy that is away."""
        del node
        if stream is self._stream:
            self._stream = None

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
        """Note what Envoy refuses, or the agent."""
        del node
        self._rejections[rejection.key] = rejection
        self._mark(rejection.key)

    def on_clear(self, node: str, cleared: Cleared) -> None:
        """Note that a refusal does not matter any more."""
        del node
        self._clear(cleared.key)

    def hold(self, delta: Delta) -> None:
        """Take what the agent has put into force, or given to Envoy."""
        for resource in delta.upserts:
            self._held[resource.key] = resource.version
            refused = self._rejections.get(resource.key)
            is_another = refused is not None and refused.version != resource.version
            if resource.type_url in types.NODE_TYPES or is_another:
                # Envoy may run that version and hear nothing of it: the refusal is of another one.
                self._clear(resource.key)
            if resource.type_url not in types.NODE_TYPES:
                self._look_again(resource.key)
        for key in delta.removals:
            self._held.pop(key, None)
            if key.type_url in types.NODE_TYPES:
                self._clear(key)
            elif key not in self._versions:
                self._mark(key)

    async def reports(self, node: str) -> AsyncGenerator[node_pb2.NodeReport]:
        """Yield everything, then each change; ends only when it is closed."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            await self._certain()
            reader.changed.clear()
            yield self._report(node, {*self._held, *self._versions, *self._rejections}, reader)
            while True:
                changed = await reader.wait()
                await self._certain()
                if not changed:
                    self._overdue(reader)
                while keys := reader.first(_REPORT_RESOURCES):
                    yield self._report(node, keys, reader)
                await asyncio.sleep(BATCH_SECONDS)
        finally:
            self._readers.discard(reader)

    async def _certain(self) -> None:
        """Return when Envoy has said what it has, or does not."""
        if self._in_doubt:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    while not self._is_calm():  # noqa: ASYNC110 - a question to Envoy has no event
                        await asyncio.sleep(CALM_SECONDS)
            self._in_doubt = False

    def _is_calm(self) -> bool:
        """Return whether Envoy has its listeners, so that it has asked for all that it wants."""
        return self._stream is not None and self._stream.calm(types.LISTENER)

    def _overdue(self, reader: _Reader) -> None:
        """Mark what is in force by now although Envoy did not say so."""
        if not self._is_calm():
            return
        for key in tuple(reader.late):
            if self._version(key, calm=True) == self._held.get(key, ""):
                del reader.late[key]
                reader.changed[key] = None

    def _report(
        self, node: str, keys: Iterable[ResourceName], reader: _Reader
    ) -> node_pb2.NodeReport:
        report = node_pb2.NodeReport(node=node)
        in_force: dict[str, dict[str, str]] = {}
        calm = self._is_calm()
        for key in keys:
            rejection = self._rejections.get(key)
            version = self._version(key, calm=calm)
            reader.late.pop(key, None)
            if rejection is None and version != self._held.get(key, version):
                reader.late[key] = None
            if rejection is None and version:
                in_force.setdefault(key.type_url, {})[key.name] = version
                continue
            report.resources.add(
                type_url=key.type_url,
                name=key.name,
                version=version,
                rejected_version="" if rejection is None else rejection.version,
                detail="" if rejection is None else rejection.detail,
            )
        for type_url, versions in in_force.items():
            report.in_force.add(type_url=type_url, versions=versions)
        return report

    def _version(self, key: ResourceName, *, calm: bool) -> str:
        """Return the version that is in force; *calm* is whether Envoy has its listeners."""
        held = self._held.get(key, "")
        if key.type_url in types.NODE_TYPES:
            return held
        runs = self._versions.get(key, "")
        if not held or key in self._rejections or not calm or self._stream is None:
            return runs
        return held if self._stream.settled(key) else runs

    def _clear(self, key: ResourceName) -> None:
        self._rejections.pop(key, None)
        self._mark(key)

    def _mark(self, key: ResourceName) -> None:
        for reader in self._readers:
            reader.changed[key] = None
            reader.awake.set()

    def _look_again(self, key: ResourceName) -> None:
        for reader in self._readers:
            reader.late[key] = None
            reader.awake.set()
