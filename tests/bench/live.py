"""A change on its way to a real Envoy: when it is acknowledged, when it is first served.

Compiler and ADS server are in this process, as in the controller; Envoy, its backends and the
prober are processes of their own. Envoy has the mesh's clusters, rules and scopes, and instead of
the pods' listeners, which need network namespaces, one on a unix socket whose scope comes from a
header.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from pathlib import Path

import msgspec

from bench import scale
from bench.encode import NODE
from bench.floor import FloorServer
from bench.processes import (
    Prober,
    answer_at,
    envoy_command,
    probing,
    running,
    thread_cpu,
    write_json,
)
from bench.report import Samples, samples
from bench.scale import Change
from penstock.ads.connection import NoHooks
from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.compiler.compile import Compiler
from penstock.compiler.published import NodeChange
from penstock.controlplane.words import read_word
from penstock.envoy.http_connection_manager import Manager, connection_manager, http_filter
from penstock.envoy.listener import RBAC_FILTER
from penstock.envoy.rbac import IDENTITY_KEY, pass_all
from penstock.envoy.wire import pack
from penstock.meta.paths import RunPaths
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from penstock.pb.envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import framing, types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Rejection
from support.real_envoy import eventually

WEB, ADS = "web.sock", "ads.sock"
REST = 0.01
"""Seconds between changes."""
PATIENCE = 120.0
_MS = 1e3


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds since the event, and of Envoy's main thread."""

    acked: Samples
    served: Samples
    envoy_cpu: Samples


class Sync(msgspec.Struct, frozen=True):
    """The first synchronisation of an Envoy that has nothing."""

    resources: int
    size: int
    seconds: float
    envoy_cpu: float
    envoy_memory: int
    """Resident MiB afterwards."""


class Acks(NoHooks):
    """Knows what Envoy has accepted, and when."""

    def __init__(self) -> None:
        self.stream: DeltaStream | None = None
        self.connected = 0.0
        """When the stream began, in monotonic seconds."""
        self.versions: dict[ResourceName, str] = {}
        self.rejections: list[Rejection] = []
        self._waiting: dict[tuple[ResourceName, str], asyncio.Future[float]] = {}

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        del node
        self.stream = stream
        self.connected = time.monotonic()

    def on_ack(self, node: str, accepted: Accepted) -> None:
        del node
        for name, version in accepted.versions.items():
            self.note(ResourceName(accepted.type_url, name), version)

    def on_reject(self, node: str, rejection: Rejection) -> None:
        del node
        self.rejections.append(rejection)

    def note(self, key: ResourceName, version: str) -> None:
        """Take that Envoy runs *version*."""
        self.versions[key] = version
        waiting = self._waiting.pop((key, version), None)
        if waiting is not None:
            waiting.set_result(time.monotonic())

    def of(self, resource: Resource) -> asyncio.Future[float]:
        """Return when this version will have been accepted."""
        made: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[resource.key, resource.version] = made
        return made


class Reports(Acks):
    """The same from the reports of an agent, whose own acknowledgements say nothing of Envoy."""

    def on_ack(self, node: str, accepted: Accepted) -> None:
        del node, accepted

    def on_report(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        del node, full
        for key, said in read_word(report).each():
            self.note(key, said.version)


class Feed:
    """The controller's world for one node: a compiler, and a snapshot for Envoy."""

    def __init__(self, compiler: Compiler) -> None:
        self.compiler = compiler
        self.store = SnapshotStore()
        self.store.apply(NODE, Delta((test_listener(),)))
        self._put(compiler.resources(NODE))

    def apply(self, change: Change, turn: int) -> None:
        self.follow(self.compiler.apply([change.event(turn)]))

    def follow(self, changes: tuple[NodeChange, ...]) -> None:
        for one in changes:
            self.store.apply(NODE, one.delta)

    def resource(self, name: ResourceName) -> Resource:
        found = self.store.peek(NODE).get(name.type_url, name.name)
        assert found is not None
        return found

    def wanted(self) -> tuple[Resource, ...]:
        """Return what Envoy should have."""
        return tuple(r for r in self.store.peek(NODE) if r.type_url in types.ENVOY_TYPES)

    def _put(self, resources: Iterable[Resource]) -> None:
        kept = (r for r in resources if r.type_url != types.LISTENER)
        self.store.apply(NODE, Delta(tuple(kept)))


def test_listener() -> Resource:
    """Return a listener like a pod's for egress, but for who chooses the scope."""
    identity = value_pb2.FilterStateValue(object_key=IDENTITY_KEY, factory_key="envoy.string")
    identity.format_string.text_format_source.inline_string = "1"
    state = set_filter_state_pb2.Config(on_new_connection=[identity])
    manager = connection_manager(
        Manager(
            stat_prefix="bench",
            scope="%REQ(x-bench-scope)%",
            filters=(http_filter(RBAC_FILTER, pass_all()),),
        )
    )
    del manager.access_log[:]  # nobody takes it here
    made = listener_pb2.Listener(name="bench")
    made.address.pipe.path = WEB
    filters = made.filter_chains.add().filters
    filters.add(name="envoy.filters.network.set_filter_state", typed_config=pack(state))
    filters.add(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))
    return make_resource(types.LISTENER, made.name, made.SerializeToString(deterministic=True))


class Rig:
    """One Envoy, its backends and a prober; servers come and go on its ADS socket."""

    def __init__(self, folder: Path, feed: Feed, envoy_pid: int, acks: Acks) -> None:
        self.folder, self.feed, self.envoy_pid, self.acks = folder, feed, envoy_pid, acks

    @contextlib.asynccontextmanager
    async def product(self) -> AsyncGenerator[None]:
        """Serve with the ADS server until the block ends."""
        server = AdsServer(self.feed.store, SystemClock(), hooks=self.acks)
        self.acks.stream = None
        await server.start(self.folder / ADS)
        try:
            yield
            await self.settled()
        finally:
            await server.stop()

    async def settled(self) -> None:
        """Wait until Envoy has what it should."""

        def holds() -> bool:
            stream = self.acks.stream
            return stream is not None and types.LISTENER in stream.acked and not stream.pending

        await eventually(holds, PATIENCE)

    async def synced(self) -> Sync:
        """Wait until Envoy has acknowledged everything for the first time."""
        cpu = thread_cpu(self.envoy_pid)
        wanted = self.feed.wanted()
        await eventually(lambda: len(self.acks.versions) >= len(wanted), PATIENCE)
        seconds = time.monotonic() - self.acks.connected
        return Sync(
            resources=len(wanted),
            size=sum(len(r.framed) for r in wanted),
            seconds=seconds,
            envoy_cpu=thread_cpu(self.envoy_pid) - cpu,
            envoy_memory=resident(self.envoy_pid),
        )

    async def measure(self, prober: Prober, change: Change, turns: int) -> Latency:
        """Return what *change* takes, made *turns* times, forth and back."""
        found: list[tuple[float, float, float]] = []
        for turn in range(1, 2 * (turns // 2) + 1):
            await asyncio.sleep(REST)
            await prober.expect(change.scope, change.markers[turn % 2])
            cpu = thread_cpu(self.envoy_pid, main_only=True)
            start = time.monotonic()
            self.feed.apply(change, turn)
            acked = await self.acks.of(self.feed.resource(change.resource))
            served = await prober.seen()
            cpu = thread_cpu(self.envoy_pid, main_only=True) - cpu
            found.append((acked - start, served - start, cpu))
        return _latency(found)

    async def measure_floor(
        self, prober: Prober, server: FloorServer, change: Change, turns: int
    ) -> Latency:
        """Return what the same change takes when its bytes are only written."""
        versions = [self._version(change, turn) for turn in range(2)]
        found: list[tuple[float, float, float]] = []
        for turn in range(1, 2 * (turns // 2) + 1):
            await asyncio.sleep(REST)
            await prober.expect(change.scope, change.markers[turn % 2])
            resource, nonce = versions[turn % 2], f"{change.name}-{turn}"
            frames = [resource.framed]
            payload = framing.delta_response(resource.type_url, nonce, frames, ())
            cpu = thread_cpu(self.envoy_pid, main_only=True)
            start = time.monotonic()
            acked = await (await server.push(nonce, payload))
            served = await prober.seen()
            cpu = thread_cpu(self.envoy_pid, main_only=True) - cpu
            found.append((acked - start, served - start, cpu))
        return _latency(found)

    def _version(self, change: Change, turn: int) -> Resource:
        self.feed.apply(change, turn)
        found = self.feed.resource(change.resource)
        self.feed.apply(change, 0)
        return found


def _latency(found: list[tuple[float, float, float]]) -> Latency:
    acked, served, cpu = zip(*found, strict=True)
    return Latency(*(samples(v * _MS for v in values) for values in (acked, served, cpu)))


def resident(pid: int) -> int:
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def free_port() -> int:
    with socket.socket() as made:
        made.bind((scale.backend_address(0), 0))
        return int(made.getsockname()[1])


@contextlib.contextmanager
def backends(folder: Path, port: int) -> Generator[None]:
    """Run what the probed endpoints are."""
    listeners = [
        answer_at(scale.backend_address(i), port, "", scale.backend_body(i))
        for i in range(scale.PROBED)
    ]
    config = {"static_resources": {"listeners": listeners}}
    file = write_json(folder / "backends.json", config)
    with running(envoy_command(file), folder / "backends.log"):
        yield


@contextlib.asynccontextmanager
async def rig(folder: Path, compiler: Compiler, backend_port: int) -> AsyncGenerator[Rig]:
    """Run an Envoy that waits for its ADS server, and what is behind it."""
    options = BootstrapOptions(node=NODE, ads_socket=ADS, max_heap_bytes=8 << 30)
    config = folder / "envoy.json"
    config.write_text(to_json(bootstrap(options)))
    feed = Feed(compiler)
    with (
        backends(folder, backend_port),
        running(envoy_command(config), folder / "envoy.log", folder) as envoy,
    ):
        yield Rig(folder, feed, envoy.pid, Acks())


@contextlib.asynccontextmanager
async def whole(folder: Path, compiler: Compiler, backend_port: int) -> AsyncGenerator[Rig]:
    """Run an agent between the server and Envoy, without eBPF."""
    paths = RunPaths(folder / "run")
    paths.root.mkdir(mode=0o700)
    reports, feed = Reports(), Feed(compiler)
    server = AdsServer(feed.store, SystemClock(), hooks=reports, on_report=reports.on_report)
    agent = [
        *(sys.executable, "-m", "penstock.cli", "agent", "--run-dir", str(paths.root)),
        *("--node", NODE, "--only-gateways", "--stop-envoy", "--concurrency", "1"),
    ]
    await server.start(paths.controller_ads)
    try:
        with (
            backends(folder, backend_port),
            running(agent, folder / "agent.log", end=signal.SIGTERM) as process,
        ):
            yield Rig(paths.root, feed, process.pid, reports)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def prober_of(rig: Rig) -> AsyncGenerator[Prober]:
    """Run the prober once Envoy listens."""
    await eventually((rig.folder / WEB).exists, PATIENCE)
    async with probing(rig.folder / WEB) as prober:
        yield prober


@contextlib.asynccontextmanager
async def floor(rig: Rig) -> AsyncGenerator[FloorServer]:
    """Serve with the floor server until the block ends."""
    server = FloorServer()
    await server.start(rig.folder / ADS)
    try:
        async with asyncio.timeout(PATIENCE):
            await server.connected.wait()
        await asyncio.sleep(0.5)  # Envoy says what it has: some requests, of which none is the last
        yield server
    finally:
        await server.stop()
