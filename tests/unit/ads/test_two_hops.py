"""Server and client over a real unix socket, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest

from penstock.ads.client import AdsClient
from penstock.ads.connection import NoHooks
from penstock.ads.reports import EnvoyVerdicts
from penstock.ads.server import SERVICE, AdsError, AdsServer
from penstock.ads.store import SnapshotStore
from penstock.meta.back_off import BackOff
from penstock.meta.names import ObjectRef, Origin
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta, Snapshot
from penstock.xds.verdict import Accepted, Cleared, Rejection
from support import reports
from support.real_envoy import eventually

ORIGIN = Origin(ObjectRef("HTTPRoute", "shop", "orders"), "spec.rules[0]")
CLUSTER = make_resource(types.CLUSTER, "c", b"1")
SCOPE = make_resource(types.SCOPE, "s", b"1", [ORIGIN], [CLUSTER.key])
POLICY = make_resource(types.POLICY, "7", b"1")


class Agent:
    """A store that refuses what begins with "bad"."""

    def __init__(self) -> None:
        self.store = Snapshot()
        self.calls: list[tuple[str, list[str], list[str]]] = []

    async def apply(
        self, type_url: str, upserts: Sequence[Resource], removals: Sequence[str]
    ) -> list[str]:
        self.calls.append((types.short(type_url), [r.name for r in upserts], list(removals)))
        good = tuple(r for r in upserts if not r.body.startswith(b"bad"))
        self.store.apply(Delta(good, tuple(ResourceName(type_url, n) for n in removals)))
        return [f"{r.name} does not decode" for r in upserts if r not in good]

    def versions(self, type_url: str) -> dict[str, str]:
        return {name: r.version for name, r in self.store.of_type(type_url).items()}


class Hooks(NoHooks):
    def __init__(self) -> None:
        self.said: list[object] = []

    def on_ack(self, node: str, accepted: Accepted) -> None:
        self.said.append((node, accepted))

    def on_reject(self, node: str, rejection: Rejection) -> None:
        self.said.append((node, rejection))

    def on_clear(self, node: str, cleared: Cleared) -> None:
        self.said.append((node, cleared))


@contextlib.asynccontextmanager
async def serving(server: AdsServer, socket: Path) -> AsyncGenerator[None]:
    await server.start(socket)
    try:
        yield
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def connected(
    agent: Agent, socket: Path, verdicts: EnvoyVerdicts | None = None
) -> AsyncGenerator[AdsClient]:
    client = AdsClient(
        f"unix:{socket}",
        "n1",
        apply=agent.apply,
        versions=agent.versions,
        clock=SystemClock(),
        random=lambda: 0.0,
        reports=None if verdicts is None else lambda: verdicts.reports("n1"),
        back_off=BackOff(first=0.01, longest=0.05),
    )
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def ads(source: SnapshotStore, hooks: NoHooks | None = None) -> AdsServer:
    return AdsServer(source, SystemClock(), hooks=hooks)


async def test_client_gets_the_snapshot_with_needs_and_origins(tmp_path: Path) -> None:
    store, agent = SnapshotStore(), Agent()
    store.replace("n1", [SCOPE, CLUSTER, POLICY])
    async with serving(ads(store), tmp_path / "ads.sock"), connected(agent, tmp_path / "ads.sock"):
        await eventually(lambda: len(agent.store) == 3)
        assert set(agent.store) == {CLUSTER, SCOPE, POLICY}
        store.apply("n1", Delta((), (SCOPE.key,)))
        await eventually(lambda: len(agent.store) == 2)


class LateStore(SnapshotStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def snapshot_for(self, node_id: str) -> Snapshot:
        self.asked.set()
        return await super().snapshot_for(node_id)


async def test_nothing_is_served_before_the_snapshot_is_complete(tmp_path: Path) -> None:
    store, agent = LateStore(), Agent()
    agent.store.apply(Delta((CLUSTER,)))
    async with serving(ads(store), tmp_path / "ads.sock"), connected(agent, tmp_path / "ads.sock"):
        await store.asked.wait()
        assert agent.calls == []
        store.apply("n1", Delta((CLUSTER,)))
        await eventually(lambda: len(agent.calls) > 0)
        assert ("Cluster", [], ["c"]) not in agent.calls


async def test_returning_client_is_sent_the_difference(tmp_path: Path) -> None:
    store, agent = SnapshotStore(), Agent()
    store.replace("n1", [CLUSTER, SCOPE])
    socket = tmp_path / "ads.sock"
    async with connected(agent, socket) as client:
        async with serving(ads(store), socket):
            await eventually(lambda: len(agent.store) == 2)
            assert client.connected
        await eventually(lambda: not client.connected)
        assert len(agent.store) == 2
        agent.calls.clear()
        store.replace("n1", [CLUSTER, POLICY])
        async with serving(ads(store), socket):
            await eventually(lambda: set(agent.store) == {CLUSTER, POLICY})
    changes = [call for call in agent.calls if call[1] or call[2]]
    assert changes == [("Policy", ["7"], []), ("ScopedRouteConfiguration", [], ["s"])]


async def test_every_type_is_answered_once_so_that_the_client_knows_it_is_in_step(
    tmp_path: Path,
) -> None:
    store, agent = SnapshotStore(), Agent()
    store.replace("n1", [])
    async with serving(ads(store), tmp_path / "ads.sock"), connected(agent, tmp_path / "ads.sock"):
        await eventually(lambda: len(agent.calls) == len(types.SENDING_ORDER) + 1)
    asked = (*types.SENDING_ORDER, types.WHOLE)
    assert [name for name, _, _ in agent.calls] == [types.short(t) for t in asked]


async def test_hooks_hear_what_the_client_said(tmp_path: Path) -> None:
    store, agent, hooks = SnapshotStore(), Agent(), Hooks()
    bad = make_resource(types.POLICY, "9", b"bad", [ORIGIN])
    store.replace("n1", [POLICY, bad])
    socket = tmp_path / "ads.sock"
    async with serving(ads(store, hooks), socket), connected(agent, socket):
        refused = ("n1", Rejection(bad.key, bad.version, (ORIGIN,), "9 does not decode"))
        await eventually(lambda: refused in hooks.said)
        accepted = ("n1", Accepted(types.POLICY, {"7": POLICY.version}))
        await eventually(lambda: accepted in hooks.said)
        store.apply("n1", Delta((), (bad.key,)))
        await eventually(lambda: ("n1", Cleared(bad.key)) in hooks.said)


async def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    store, agent = SnapshotStore(), Agent()
    store.replace("n1", [])
    socket = tmp_path / "ads.sock"
    async with serving(ads(store), socket), grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        deaf = raw_stream(channel)
        await deaf.write(first_request(types.CLUSTER))
        async with connected(agent, socket):
            for i in range(600):
                store.apply("n1", Delta((make_resource(types.CLUSTER, "c", b"%d" % i),)))
            last = make_resource(types.CLUSTER, "c", b"599")
            await eventually(lambda: set(agent.store) == {last})


def raw_stream(
    channel: grpc.aio.Channel, method: str = "DeltaAggregatedResources"
) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    return channel.stream_stream(
        f"/{SERVICE}/{method}", request_serializer=_same, response_deserializer=_same
    )(None)


def _same(message: bytes) -> bytes:
    return message


def first_request(type_url: str, node: str = "n1", padding: int = 0) -> bytes:
    request = discovery_pb2.DeltaDiscoveryRequest(
        type_url=type_url,
        initial_resource_versions={f"{i}-{'x' * 1000}": "v" for i in range(padding)},
    )
    request.node.id = node
    return request.SerializeToString()


async def refusal(socket: Path, payload: bytes | None, method: str) -> tuple[grpc.StatusCode, str]:
    """Return how a call ends; None sends nothing, as a write to what has ended may hide why."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = raw_stream(channel, method)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # ended already
            if payload is not None:
                await call.write(payload)
        return await call.code(), await call.details()


@pytest.mark.parametrize(
    ("payload", "method", "code", "words"),
    [
        (None, "StreamAggregatedResources", grpc.StatusCode.UNIMPLEMENTED, "DELTA_GRPC"),
        (b"", "DeltaAggregatedResources", grpc.StatusCode.INVALID_ARGUMENT, "node.id"),
        (b"\xff", "DeltaAggregatedResources", grpc.StatusCode.INVALID_ARGUMENT, "not a Delta"),
    ],
)
async def test_what_is_not_served_is_refused_with_the_next_step(
    tmp_path: Path, payload: bytes | None, method: str, code: grpc.StatusCode, words: str
) -> None:
    socket = tmp_path / "ads.sock"
    async with serving(ads(SnapshotStore()), socket):
        status, details = await refusal(socket, payload, method)
    assert status is code
    assert words in details


async def test_later_garbage_ends_the_stream(tmp_path: Path) -> None:
    store = SnapshotStore()
    store.replace("n1", [])
    socket = tmp_path / "ads.sock"
    async with serving(ads(store), socket), grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = raw_stream(channel)
        await call.write(first_request(types.CLUSTER))
        await call.write(b"\xff")
        with pytest.raises(grpc.aio.AioRpcError, match="not a Delta"):
            _ = [answer async for answer in call]


async def test_requests_larger_than_grpc_allows_by_default_are_read(tmp_path: Path) -> None:
    store = SnapshotStore()
    store.replace("n1", [CLUSTER])
    socket = tmp_path / "ads.sock"
    async with serving(ads(store), socket), grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = raw_stream(channel)
        payload = first_request(types.CLUSTER, padding=5_000)
        assert len(payload) > 4 << 20
        await call.write(payload)
        answer = await call.read()
        assert isinstance(answer, bytes)
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(answer)
        assert [r.name for r in message.resources] == ["c"]


async def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    socket = tmp_path / "run" / "ads.sock"
    socket.parent.mkdir()
    socket.touch()  # left by an earlier process
    async with serving(ads(SnapshotStore()), socket):
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


async def test_path_that_is_no_place_for_a_socket_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AdsError, match=r"file/ads\.sock"):
        await ads(SnapshotStore()).start(tmp_path / "file" / "ads.sock")
    with pytest.raises(AdsError, match="107 bytes"):
        await ads(SnapshotStore()).start(tmp_path / ("x" * 120) / "ads.sock")


async def test_other_services_share_the_socket(tmp_path: Path) -> None:
    async def echo(request: bytes, _context: object) -> bytes:
        return request

    handler = grpc.method_handlers_generic_handler(
        "test.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    socket = tmp_path / "ads.sock"
    server = AdsServer(SnapshotStore(), SystemClock(), extra_handlers=[handler])
    async with serving(server, socket), grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(
            "/test.Echo/Echo", request_serializer=bytes, response_deserializer=bytes
        )
        assert await call(b"hello") == b"hello"


class Reports:
    def __init__(self) -> None:
        self.got: list[tuple[bool, dict[str, tuple[str, str, str]]]] = []

    def take(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        assert node == "n1"
        rows = {k.name: (r.version, r.rejected, r.detail) for k, r in reports.rows(report).items()}
        self.got.append((full, rows))


async def test_controller_hears_what_envoy_said_all_first_and_then_each_change(
    tmp_path: Path,
) -> None:
    store, agent, reports, verdicts = SnapshotStore(), Agent(), Reports(), EnvoyVerdicts()
    store.replace("n1", [])
    socket = tmp_path / "ads.sock"
    verdicts.on_ack("envoy", Accepted(types.SCOPE, {"a": "v1", "b": "v1"}))
    verdicts.on_ack("envoy", Accepted(types.SCOPE, {}, ("b",)))
    verdicts.on_reject("envoy", Rejection(ResourceName(types.SCOPE, "a"), "v2", (), "bad regex"))
    async with connected(agent, socket, verdicts):
        server = AdsServer(store, SystemClock(), on_report=reports.take)
        async with serving(server, socket):
            await eventually(lambda: len(reports.got) == 1)
            verdicts.on_ack("envoy", Accepted(types.SCOPE, {"a": "v3"}))
            await eventually(lambda: len(reports.got) == 2)
        first_session = list(reports.got)
        reports.got.clear()
        verdicts.on_ack("envoy", Accepted(types.SCOPE, {"c": "v1"}))
        async with serving(server, socket):
            await eventually(lambda: len(reports.got) == 1)
    assert first_session == [
        (True, {"a": ("v1", "v2", "bad regex")}),
        (False, {"a": ("v3", "", "")}),
    ]
    assert reports.got == [(True, {"a": ("v3", "", ""), "c": ("v1", "", "")})]


async def test_new_stream_of_envoy_starts_from_what_envoy_brings() -> None:
    verdicts = EnvoyVerdicts()
    key = ResourceName(types.SCOPE, "a")
    verdicts.on_ack("envoy", Accepted(types.SCOPE, {"a": "v1", "b": "v1"}))
    verdicts.on_reject("envoy", Rejection(key, "v2", (), "bad regex"))
    assert [r.detail for r in verdicts.rejections] == ["bad regex"]
    verdicts.on_connect("envoy", DeltaStream(Snapshot()))
    verdicts.on_ack("envoy", Accepted(types.SCOPE, {"b": "v1"}, brought=True))
    assert verdicts.rejections == ()
    report = await anext(verdicts.reports("n1"))
    assert [(key.name, one.version) for key, one in reports.rows(report).items()] == [("b", "v1")]


async def test_refusal_of_what_is_gone_is_forgotten() -> None:
    verdicts = EnvoyVerdicts()
    key = ResourceName(types.SCOPE, "a")
    verdicts.on_reject("envoy", Rejection(key, "v2", (), "bad regex"))
    verdicts.on_clear("envoy", Cleared(key))
    assert verdicts.rejections == ()


def test_pauses_grow_to_a_limit_and_are_spread() -> None:
    back_off = BackOff(first=0.1, longest=10.0)
    assert [back_off.pause(n, 0.999999) for n in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4])
    assert back_off.pause(1_000, 0.0) == 5.0
    assert back_off.pause(1_000, 0.999999) == pytest.approx(10.0)
