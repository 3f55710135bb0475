"""A controller on the network and nodes that join it, over real sockets and real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
import structlog

from penstock.ads.client import AdsClient
from penstock.ads.dial import Controller, ControllersDialer, fixed_controllers
from penstock.ads.join import JoinClient
from penstock.ads.server import REPORT_SERVICE, SERVICE
from penstock.ca.authority import (
    CA_LIFE,
    LEAF_LIFE,
    Authority,
    new_authority,
    read_request,
    utc,
)
from penstock.compiler.settings import Settings
from penstock.controlplane.authority_store import FolderStore
from penstock.controlplane.endpoint import Endpoint
from penstock.controlplane.metrics import Metrics
from penstock.controlplane.network import Network
from penstock.controlplane.world import World
from penstock.core.events import Batch
from penstock.meta.back_off import BackOff
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.meta.node_identity import CONTROLLER_NAME
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects
from support.fake_clock import FakeClock
from support.kube import free_ports
from support.nodes import LateClock, Memory, issue, key_pem, new_key, request_pem, running
from support.real_envoy import eventually

TOKEN = "0123456789abcdef-given"  # noqa: S105  # of this test
QUICK = BackOff(first=0.02, longest=0.1, spread=1.0)
logging.getLogger("aiohttp").setLevel(logging.CRITICAL)


class Site:
    """One controller."""

    def __init__(self, folder: Path, clock: LateClock, place: Controller | None = None) -> None:
        self.folder = folder
        self.clock = clock
        self.world = World(Settings())
        ads, join = free_ports(2)
        self.place = place or Controller(host="127.0.0.1", ads=ads, join=join)
        (folder / "token").write_text(TOKEN)
        network = Network(
            ads_address=f"127.0.0.1:{self.place.ads}",
            join_address=f"127.0.0.1:{self.place.join}",
            authority_folder=folder / "ca",
            join_token_file=folder / "token",
            drain=0.0,
        )
        self.endpoint = Endpoint(network, self.world, Metrics(self.world), clock)

    async def sync(self) -> None:
        things = [objects.service("front", "10.96.0.1"), objects.gateway_class()]
        await self.world.take(Batch(tuple(objects.added(things))))

    async def authority(self) -> Authority:
        found = await FolderStore(self.folder / "ca").read()
        assert found is not None
        return found

    def nodes(self) -> dict[str, bool]:
        return self.world.acknowledgements.connected


@contextlib.asynccontextmanager
async def serving(
    folder: Path, clock: LateClock | None = None, place: Controller | None = None
) -> AsyncGenerator[Site]:
    site = Site(folder, clock or LateClock(), place)
    await site.sync()
    async with running(site.endpoint.run(None, {})):
        await eventually(lambda: site.endpoint.missing() == [])
        yield site


class Node:
    """A node that joins and follows a controller."""

    def __init__(
        self, site: Site, name: str = "n1", *places: Controller, clock: Clock | None = None
    ) -> None:
        controllers = fixed_controllers(*(places or (site.place,)))
        self.memory = Memory()
        self.join = JoinClient(
            name,
            ca_file=site.folder / "ca" / "ca.crt",
            token_file=site.folder / "token",
            controllers=controllers,
            clock=clock or site.clock,
            random=lambda: 0.5,
            folder=site.folder / f"keys-{name}",
            back_off=QUICK,
        )
        self.ads = AdsClient(
            ControllersDialer(controllers, self.join, lambda: 0.0),
            name,
            apply=self.memory.apply,
            versions=self.memory.versions,
            clock=site.clock,
            random=lambda: 0.5,
            back_off=QUICK,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        async with running(self.join.run()), running(self.ads.run()):
            yield

    def has_everything(self) -> bool:
        return self.ads.connected and len(self.memory.store) > 0


Message = discovery_pb2.DeltaDiscoveryRequest | node_pb2.NodeReport


def connected(site: Site, credentials: grpc.ChannelCredentials, name: str) -> grpc.aio.Channel:
    """Return a connection of its own to a controller that should be called *name*."""
    options = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
    address = f"127.0.0.1:{site.place.ads}"
    return grpc.aio.secure_channel(address, credentials, options=options)


def new_stream(
    channel: grpc.aio.Channel, first: Message
) -> grpc.aio.StreamStreamCall[Message, bytes]:
    report = isinstance(first, node_pb2.NodeReport)
    method = f"/{REPORT_SERVICE}/Report" if report else f"/{SERVICE}/DeltaAggregatedResources"
    return channel.stream_stream(method, _serialised, bytes)(None)


def _serialised(message: Message) -> bytes:
    return message.SerializeToString()


async def call(
    site: Site, credentials: grpc.ChannelCredentials, message: Message, name: str = CONTROLLER_NAME
) -> tuple[grpc.StatusCode, str]:
    """Send one message on a new connection; return how the call ends, OK if it is answered."""
    async with connected(site, credentials, name) as channel:
        stream = new_stream(channel, message)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await stream.write(message)
            if isinstance(await stream.read(), bytes):
                stream.cancel()
                return grpc.StatusCode.OK, ""
        return await stream.code(), await stream.details()


def first_request(node: str) -> discovery_pb2.DeltaDiscoveryRequest:
    request = discovery_pb2.DeltaDiscoveryRequest(type_url=types.CLUSTER)
    request.resource_names_subscribe.append("*")
    request.node.id = node
    return request


async def certified(site: Site, node: str, authority: Authority | None = None) -> tuple[bytes, ...]:
    """Return bundle, key and certificate as a node has them."""
    known = await site.authority()
    now = utc(site.clock.now())
    key, issued = issue(authority or known, node, now)
    return known.certificates(now), key_pem(key), issued.certificate


async def test_a_node_joins_and_gets_its_snapshot(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        node = Node(site)
        async with node.running():
            await eventually(node.has_everything)
            assert site.nodes() == {"n1": True}
            assert (tmp_path / "keys-n1" / "node.pem").stat().st_mode & 0o777 == 0o600
            assert (tmp_path / "keys-n1").stat().st_mode & 0o777 == 0o700


async def test_the_next_process_of_a_node_needs_no_joining(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        first = Node(site)
        async with first.running():
            await eventually(first.has_everything)
        (tmp_path / "token").write_text("another token, not ours")
        (tmp_path / "token").chmod(0o000)
        (tmp_path / "token").unlink()
        second = Node(site)
        async with second.running():
            await eventually(second.has_everything)
        assert second.join.ends == first.join.ends


async def test_what_another_node_left_is_not_used(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        first = Node(site)
        async with first.running():
            await eventually(first.has_everything)
        (tmp_path / "keys-n1").rename(tmp_path / "keys-n2")
        second = Node(site, "n2")
        async with second.running():
            await eventually(second.has_everything)
            assert site.nodes()["n2"]


async def test_a_stream_for_another_node_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        credentials = grpc.ssl_channel_credentials(*await certified(site, "n1"))
        assert (await call(site, credentials, first_request("n1")))[0] is grpc.StatusCode.OK
        code, details = await call(site, credentials, first_request("n2"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "spiffe://cluster.local/penstock/node/n1" in details
        assert "'n2'" in details
        assert "n2" not in site.nodes()


async def test_reports_about_another_node_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        credentials = grpc.ssl_channel_credentials(*await certified(site, "n1"))
        code, details = await call(site, credentials, node_pb2.NodeReport(node="n2"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "may not speak for node 'n2'" in details
        assert site.nodes() == {}


async def test_peers_without_a_certificate_of_ours_do_not_get_through(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        stranger = new_authority(utc(site.clock.now()))
        bundle, key, certificate = await certified(site, "n1", stranger)
        now = utc(site.clock.now())
        server = (await site.authority()).serving([CONTROLLER_NAME], "cluster.local", now)
        for offered in (
            (bundle,),
            (bundle, key, certificate),
            (bundle, server.key, server.certificate),
        ):
            credentials = grpc.ssl_channel_credentials(*offered)
            code, _ = await call(site, credentials, first_request("n1"))
            assert code is grpc.StatusCode.UNAVAILABLE
        assert site.nodes() == {}


async def test_a_controller_under_another_name_is_not_believed(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        credentials = grpc.ssl_channel_credentials(*await certified(site, "n1"))
        code, _ = await call(site, credentials, first_request("n1"), "n1.example")
        assert code is grpc.StatusCode.UNAVAILABLE


async def test_a_node_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        authority, now, key = await site.authority(), utc(site.clock.now()), new_key()
        issued = authority.sign_node(read_request(request_pem(key)), "n1", "other.example", now)
        bundle = authority.certificates(now)
        credentials = grpc.ssl_channel_credentials(bundle, key_pem(key), issued.certificate)
        code, _ = await call(site, credentials, first_request("n1"))
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_stream_ends_with_its_certificate(tmp_path: Path) -> None:
    clock = LateClock()
    async with serving(tmp_path, clock) as site:
        credentials = grpc.ssl_channel_credentials(*await certified(site, "n1"))
        clock.seconds = LEAF_LIFE.total_seconds() - 1.0
        async with connected(site, credentials, CONTROLLER_NAME) as channel:
            stream = new_stream(channel, first_request("n1"))
            await stream.write(first_request("n1"))
            with pytest.raises(grpc.aio.AioRpcError, match="has ended") as raised:
                _ = [answer async for answer in stream]
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_own_certificate_and_authority_rotate_under_a_running_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.controlplane.trust.LOOK_SECONDS", 0.02)
    clock = LateClock(-(CA_LIFE * 0.8).total_seconds())
    async with serving(tmp_path, clock) as site:
        before = await site.authority()
        clock.seconds = 0.0
        await eventually(lambda: _certificates(tmp_path) == 2)
        after = await site.authority()
        assert after.keys() != before.keys()
        node = Node(site)
        async with node.running():
            await eventually(node.has_everything)


async def test_streams_go_on_while_the_certificate_of_the_controller_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.controlplane.trust.LOOK_SECONDS", 0.02)
    clock = LateClock(-timedelta(hours=17).total_seconds())
    with structlog.testing.capture_logs() as logs:

        def told(event: str) -> int:
            return sum(one["event"] == event for one in logs)

        async with serving(tmp_path, clock) as site:
            first, second = Node(site), Node(site, "n2")
            async with first.running():
                await eventually(first.has_everything)
                clock.seconds = 0.0
                await eventually(lambda: told("certificate of this controller") == 2)
                async with second.running():
                    await eventually(second.has_everything)
                    assert site.nodes() == {"n1": True, "n2": True}
                    assert told("client connected") == 2


async def test_many_nodes_that_come_together_are_all_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.ads.server.FIRST_AT_ONCE", 2)
    async with serving(tmp_path) as site, contextlib.AsyncExitStack() as stack:
        nodes = [Node(site, f"n{index}") for index in range(40)]
        for node in nodes:
            await stack.enter_async_context(node.running())
        await eventually(lambda: all(node.has_everything() for node in nodes), 60)
        assert sum(site.nodes().values()) == 40


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        (tmp_path / "other").mkdir()
        other = Site(tmp_path / "other", LateClock(), site.place)
        with pytest.raises(PenstockError, match=f"127.0.0.1:{site.place.ads}"):
            await other.endpoint.run(None, {})


def _certificates(folder: Path) -> int:
    return (folder / "ca" / "ca.crt").read_text().count("BEGIN")


async def test_a_node_goes_to_the_controller_that_is_left(tmp_path: Path) -> None:
    clock = LateClock()
    async with contextlib.AsyncExitStack() as left, serving(tmp_path, clock) as other:
        site = await left.enter_async_context(serving(tmp_path, clock))
        node = Node(site, "n1", site.place, other.place)
        async with node.running():
            await eventually(node.has_everything)
            first = site if site.nodes().get("n1") else other
            second = other if first is site else site
            await first.endpoint.drain()
            assert first.endpoint.missing() == ["this controller is ending"]
            await eventually(lambda: second.nodes().get("n1", False))
            assert len(node.memory.store) > 0


async def test_a_controller_that_does_not_know_everything_sends_nodes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.controlplane.endpoint.SYNC_SECONDS", 0.01)
    site = Site(tmp_path, LateClock())
    async with running(site.endpoint.run(None, {})):
        await eventually(lambda: site.endpoint.missing() == ["not everything is known yet"])
        credentials = grpc.ssl_channel_credentials(*await certified(site, "n1"))
        code, details = await call(site, credentials, first_request("n1"))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "does not know everything yet" in details


async def test_a_certificate_is_renewed_before_its_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        clock = FakeClock()
        join = Node(site, clock=clock).join
        async with running(join.run()):
            await join.channel()
            kept = tmp_path / "keys-n1" / "node.pem"
            first = kept.read_bytes()
            await eventually(lambda: clock.sleepers == 1)
            clock.advance(timedelta(hours=12).total_seconds())
            assert kept.read_bytes() == first
            clock.advance(timedelta(hours=6).total_seconds())
            await eventually(lambda: kept.read_bytes() != first)


async def test_a_node_whose_clock_is_days_ahead_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        join = Node(site, clock=LateClock(timedelta(days=3).total_seconds())).join
        with structlog.testing.capture_logs() as logs:
            async with running(join.run()):
                await eventually(lambda: any("our clock" in str(one) for one in logs))


async def test_a_node_joins_again_after_the_authority_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.ads.join.DOUBT_SECONDS", 0.0)
    async with contextlib.AsyncExitStack() as life:
        site = await life.enter_async_context(serving(tmp_path))
        node = Node(site)
        async with node.running():
            await eventually(node.has_everything)
            await life.aclose()
            for path in (tmp_path / "ca").iterdir():
                path.unlink()
            async with serving(tmp_path, place=site.place) as again:
                await eventually(lambda: again.nodes().get("n1", False))
