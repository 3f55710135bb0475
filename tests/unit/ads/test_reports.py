"""What an agent reports: what Envoy said, what Envoy has no use for, what is in the kernel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from penstock.ads.reports import EnvoyVerdicts, until
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta, Snapshot
from penstock.xds.verdict import Accepted, Rejection
from support import reports

ROUTES = make_resource(types.ROUTES, "r", b"1")
POLICY = make_resource(types.POLICY, "7", b"1")


class Rig:
    def __init__(self, *resources: Resource) -> None:
        self.verdicts = EnvoyVerdicts(patience=30.0)
        self.stream = DeltaStream(Snapshot(resources))

    def connect(self) -> None:
        self.verdicts.on_connect("envoy", self.stream)

    def ask(self, type_url: str, *names: str) -> None:
        """Have Envoy ask, and take what it is sent."""
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names
        )
        self.stream.on_request(request, 0.0)
        for response in self.stream.responses(0.0):
            answer = discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
            self.stream.on_request(answer, 0.0)
        for verdict in self.stream.verdicts():
            assert isinstance(verdict, Accepted)
            self.verdicts.on_ack("envoy", verdict)


Rows = dict[str, tuple[str, str]]


def rows(report: node_pb2.NodeReport) -> Rows:
    return {key.name: (one.version, one.rejected) for key, one in reports.rows(report).items()}


@contextlib.asynccontextmanager
async def reading(verdicts: EnvoyVerdicts) -> AsyncGenerator[AsyncIterator[node_pb2.NodeReport]]:
    reports = verdicts.reports("n1")
    async with contextlib.aclosing(reports):
        yield reports


async def test_what_envoy_does_not_ask_for_is_in_force_once_it_has_its_listeners() -> None:
    rig = Rig(ROUTES)
    rig.verdicts.hold(Delta((ROUTES,)))
    rig.connect()
    rig.ask(types.LISTENER, "*")
    async with reading(rig.verdicts) as reports:
        assert rows(await anext(reports)) == {"r": (ROUTES.version, "")}


async def test_what_envoy_asks_for_is_in_force_when_it_says_so() -> None:
    rig = Rig(ROUTES)
    rig.verdicts.hold(Delta((ROUTES,)))
    rig.connect()
    rig.ask(types.LISTENER, "*")
    rig.stream.on_request(
        discovery_pb2.DeltaDiscoveryRequest(
            type_url=types.ROUTES, resource_names_subscribe=["r"]
        ),
        0.0,
    )  # fmt: skip
    async with reading(rig.verdicts) as reports:
        assert rows(await anext(reports)) == {"r": ("", "")}
        rig.ask(types.ROUTES)
        assert rows(await anext(reports)) == {"r": (ROUTES.version, "")}


async def test_what_envoy_never_speaks_of_is_looked_at_again() -> None:
    rig = Rig(ROUTES)
    rig.connect()
    rig.ask(types.LISTENER, "*")
    async with reading(rig.verdicts) as reports:
        assert rows(await anext(reports)) == {}
        rig.verdicts.hold(Delta((ROUTES,)))
        assert rows(await anext(reports)) == {"r": (ROUTES.version, "")}


async def test_reports_wait_for_an_envoy_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.ads.reports.CALM_SECONDS", 0.0)
    rig = Rig(ROUTES)
    rig.verdicts.on_ack("envoy", Accepted(types.ROUTES, {"r": ROUTES.version}))
    rig.connect()
    asked: list[str] = []

    def is_calm() -> bool:
        asked.append("calm?")
        if len(asked) == 3:
            rig.verdicts.on_ack("envoy", Accepted(types.ROUTES, {"r": ROUTES.version}))
            rig.ask(types.LISTENER, "*")
        return rig.stream.calm(types.LISTENER)

    monkeypatch.setattr(rig.verdicts, "_is_calm", is_calm)
    async with reading(rig.verdicts) as reports:
        assert rows(await anext(reports)) == {"r": (ROUTES.version, "")}
    assert len(asked) >= 3


async def test_an_envoy_that_stays_away_is_not_waited_for_for_ever() -> None:
    verdicts = EnvoyVerdicts(patience=0.01)
    verdicts.hold(Delta((ROUTES, POLICY)))
    async with reading(verdicts) as reports:
        assert rows(await anext(reports)) == {"r": ("", ""), "7": (POLICY.version, "")}


async def test_a_refusal_is_over_when_the_version_before_it_is_wanted_again() -> None:
    """Envoy has it, so it is not sent anything, and says nothing."""
    rig = Rig(ROUTES)
    rig.verdicts.on_ack("envoy", Accepted(types.ROUTES, {"r": ROUTES.version}))
    rig.verdicts.hold(Delta((ROUTES,)))
    worse = make_resource(types.ROUTES, "r", b"2")
    rig.verdicts.hold(Delta((worse,)))
    rig.verdicts.on_reject("envoy", Rejection(worse.key, worse.version, (), "no"))
    rig.verdicts.hold(Delta((worse,)))
    assert [one.version for one in rig.verdicts.rejections] == [worse.version]
    rig.verdicts.hold(Delta((ROUTES,)))
    assert not rig.verdicts.rejections


async def test_nothing_is_left_of_a_stream_of_reports_that_the_server_ends() -> None:
    verdicts, over = EnvoyVerdicts(), asyncio.Event()
    verdicts.hold(Delta((POLICY,)))
    before = asyncio.all_tasks()
    found: list[node_pb2.NodeReport] = []
    async for report in until(over, lambda: verdicts.reports("n1")):
        found.append(report)
        over.set()
    assert len(found) == 1
    assert asyncio.all_tasks() == before


async def test_our_own_types_are_in_force_when_the_agent_has_put_them_there() -> None:
    verdicts = EnvoyVerdicts()
    better = make_resource(types.POLICY, "7", b"3")
    async with reading(verdicts) as reports:
        assert rows(await anext(reports)) == {}
        verdicts.hold(Delta((POLICY,)))
        assert rows(await anext(reports)) == {"7": (POLICY.version, "")}
        verdicts.on_reject("n1", Rejection(POLICY.key, "bad", (), "does not decode"))
        assert rows(await anext(reports)) == {"7": (POLICY.version, "bad")}
        verdicts.on_connect("envoy", DeltaStream(Snapshot()))
        assert rows(await anext(reports)) == {"7": (POLICY.version, "bad")}
        verdicts.hold(Delta((better,)))
        assert rows(await anext(reports)) == {"7": (better.version, "")}
        verdicts.hold(Delta((), (POLICY.key,)))
        assert rows(await anext(reports)) == {"7": ("", "")}


async def test_each_stream_of_reports_has_all_changes() -> None:
    verdicts = EnvoyVerdicts()
    async with reading(verdicts) as first, reading(verdicts) as second:
        assert rows(await anext(first)) == rows(await anext(second)) == {}
        verdicts.hold(Delta((POLICY,)))
        verdicts.on_ack("envoy", Accepted(types.SCOPE, {"s": "v1"}))
        expected = {"7": (POLICY.version, ""), "s": ("v1", "")}
        assert rows(await anext(first)) == expected
        assert rows(await anext(second)) == expected
