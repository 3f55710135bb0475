"""Reports go to every controller that is ready, over mutual TLS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence

import grpc
import pytest

from penstock.ads.dial import Controller, DialError
from penstock.ads.fan_out import ReportFanOut
from penstock.ads.peers import CertifiedNodes
from penstock.ads.reports import EnvoyVerdicts
from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.ca.authority import new_authority, utc
from penstock.meta.back_off import BackOff
from penstock.meta.node_identity import CONTROLLER_NAME, TRUST_DOMAIN
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from penstock.xds.resource import make_resource
from penstock.xds.snapshot import Delta
from support.kube import free_ports
from support.nodes import issue, key_pem, running
from support.real_envoy import eventually
from support.reports import rows

QUICK = BackOff(first=0.02, longest=0.1, spread=1.0)
CLOCK = SystemClock()
POLICIES = [make_resource(types.POLICY, str(n), b"1") for n in range(3)]


class Credentials:
    """Those of one node."""

    def __init__(self, bundle: bytes, key: bytes, certificate: bytes) -> None:
        self._channel = grpc.ssl_channel_credentials(bundle, key, certificate)

    async def channel(self) -> grpc.ChannelCredentials:
        return self._channel

    def doubt(self) -> None:
        raise AssertionError("reports alone are no reason")


class FakeController:
    """Takes reports."""

    def __init__(self, place: Controller, credentials: grpc.ServerCredentials) -> None:
        self.place = place
        self.heard: set[str] = set()
        self.streams = 0
        self._credentials = credentials

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        server = AdsServer(
            SnapshotStore(),
            CLOCK,
            on_report=self._take,
            on_silence=self._silent,
            peers=CertifiedNodes(TRUST_DOMAIN),
        )
        await server.start_tls(self.place.target, self._credentials)
        try:
            yield
        finally:
            await server.stop()

    def _take(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        assert node == "n1"
        if full:
            self.heard.clear()
            self.streams += 1
        self.heard.update(key.name for key in rows(report))

    def _silent(self, node: str) -> None:
        assert node == "n1"
        self.streams -= 1


class Site:
    """Three controllers, of which some are ready, and a node."""

    def __init__(self) -> None:
        now = utc(CLOCK.now())
        authority = new_authority(now)
        bundle = authority.certificates(now)
        issued = authority.serving([CONTROLLER_NAME], TRUST_DOMAIN, now)
        server = grpc.ssl_server_credentials(
            [(issued.key, issued.certificate)], bundle, require_client_auth=True
        )
        self.all = [
            FakeController(Controller(host="127.0.0.1", ads=port), server)
            for port in free_ports(3)
        ]  # fmt: skip
        self.ready = list(self.all)
        self.trouble = False
        self.verdicts = EnvoyVerdicts()
        key, mine = issue(authority, "n1", now)
        self.fan_out = ReportFanOut(
            self._controllers,
            Credentials(bundle, key_pem(key), mine.certificate),
            reports=lambda: self.verdicts.reports("n1"),
            clock=CLOCK,
            random=lambda: 0.5,
            back_off=QUICK,
            look_seconds=0.02,
        )

    async def _controllers(self) -> Sequence[Controller]:
        if self.trouble:
            raise DialError("nobody knows")
        return [one.place for one in self.ready]


@pytest.fixture
def site() -> Site:
    return Site()


async def test_every_controller_is_told_everything_and_then_changes(site: Site) -> None:
    site.verdicts.hold(Delta((POLICIES[0],)))
    async with contextlib.AsyncExitStack() as stack:
        for one in site.all:
            await stack.enter_async_context(one.serving())
        await stack.enter_async_context(running(site.fan_out.run()))
        await eventually(lambda: all(one.heard == {"0"} for one in site.all))
        site.verdicts.hold(Delta((POLICIES[1],)))
        await eventually(lambda: all(one.heard == {"0", "1"} for one in site.all))
        assert [one.streams for one in site.all] == [1, 1, 1]
    await eventually(lambda: all(one.streams == 0 for one in site.all))


async def test_a_controller_that_starts_again_is_told_everything_again(site: Site) -> None:
    site.verdicts.hold(Delta((POLICIES[0],)))
    first, second, _ = site.all
    site.ready = [first, second]
    async with second.serving(), running(site.fan_out.run()):
        async with first.serving():
            await eventually(lambda: first.heard == second.heard == {"0"})
        first.heard.clear()
        site.verdicts.hold(Delta((POLICIES[1],)))
        await eventually(lambda: second.heard == {"0", "1"})
        async with first.serving():
            await eventually(lambda: first.heard == {"0", "1"})


async def test_controllers_come_and_go(site: Site) -> None:
    first, second, third = site.all
    site.ready = [first, second]
    async with first.serving(), second.serving(), third.serving(), running(site.fan_out.run()):
        await eventually(lambda: [one.streams for one in site.all] == [1, 1, 0])
        site.ready = [second, third]
        await eventually(lambda: [one.streams for one in site.all] == [0, 1, 1])
        site.trouble = True
        site.verdicts.hold(Delta((POLICIES[2],)))
        await eventually(lambda: second.heard == third.heard == {"2"})
        assert site.fan_out.targets == {second.place.target, third.place.target}


async def test_nothing_is_left_running(site: Site) -> None:
    async with site.all[0].serving():
        async with running(site.fan_out.run()):
            await eventually(lambda: site.all[0].streams == 1)
        assert site.fan_out.targets == set()
        await eventually(lambda: site.all[0].streams == 0)
