"""Our server against the stock Envoy: order, change under traffic, poison, resume."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message

from penstock.ads.client import AdsClient
from penstock.ads.connection import NoHooks
from penstock.ads.reports import EnvoyVerdicts
from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.envoy.cluster import Protocol
from penstock.envoy.external import external_cluster
from penstock.ir.external import External
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import address_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.pb.envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from penstock.pb.envoy.extensions.filters.http.router.v3 import router_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import framing, types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Rejection
from support.real_envoy import RealEnvoy, backend, eventually, running_envoy
from support.reports import rows

CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
AT_ONCE = ("--drain-time-s", "1", "--drain-strategy", "immediate")
"""What is removed is soon gone."""
ADS: dict[str, Any] = {"ads": {}, "resource_api_version": "V3"}
_ = (router_pb2, http_connection_manager_pb2)  # known to json_format
ROUTE = Origin(ObjectRef("HTTPRoute", "shop", "orders"), "spec.rules[0]")


def body(message: Message, content: dict[str, Any]) -> bytes:
    json_format.ParseDict(content, message)
    return message.SerializeToString(deterministic=True)


def cluster(name: str, timeout: str = "1s", **more: Any) -> Resource:
    content = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": ADS},
        **more,
    }
    return make_resource(types.CLUSTER, name, body(cluster_pb2.Cluster(), content))


def endpoints(name: str, *sockets: Path) -> Resource:
    lb = [{"endpoint": {"address": {"pipe": {"path": str(s)}}}} for s in sockets]
    content = {"cluster_name": name, "endpoints": [{"lb_endpoints": lb}]}
    message = endpoint_pb2.ClusterLoadAssignment()
    return make_resource(types.ENDPOINTS, name, body(message, content))


def scope(name: str, to: str, regex: str = "") -> Resource:
    match = {"safe_regex": {"regex": regex}} if regex else {"prefix": "/"}
    host = {
        "name": "v",
        "domains": ["*"],
        "routes": [{"match": match, "route": {"cluster": to}}],
    }
    content = {
        "name": name,
        "key": {"fragments": [{"string_key": name}]},
        "route_configuration": {"name": name, "virtual_hosts": [host]},
    }
    message = scoped_route_pb2.ScopedRouteConfiguration()
    needs = [ResourceName(types.CLUSTER, to)]
    return make_resource(types.SCOPE, name, body(message, content), [ROUTE], needs)


def listener(folder: Path) -> Resource:
    filters = "type.googleapis.com/envoy.extensions.filters"
    hcm = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}
        ],
        "scoped_routes": {
            "name": "penstock",
            "scope_key_builder": {
                "fragments": [
                    {
                        "header_value_extractor": {
                            "name": ":path",
                            "element_separator": "/",
                            "index": 1,
                        }
                    }
                ]
            },
            "rds_config_source": ADS,
            "scoped_rds": {"scoped_rds_config_source": ADS},
        },
    }
    content = {
        "name": "web",
        "address": {"pipe": {"path": str(folder / "web.sock")}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}],
    }
    return make_resource(types.LISTENER, "web", body(listener_pb2.Listener(), content))


BAD = cluster(
    "bad",
    lb_policy="RING_HASH",
    ring_hash_lb_config={"minimum_ring_size": 10, "maximum_ring_size": 5},
)


class Recorder(NoHooks):
    """Keeps what Envoy said, in order."""

    def __init__(self) -> None:
        self.streams: list[DeltaStream] = []
        self.acks: list[Accepted] = []
        self.rejections: dict[str, Rejection] = {}

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        assert node == "n1"
        self.streams.append(stream)

    def on_ack(self, node: str, accepted: Accepted) -> None:
        assert node == "n1"
        self.acks.append(accepted)

    def on_reject(self, node: str, rejection: Rejection) -> None:
        assert node == "n1"
        self.rejections[rejection.key.name] = rejection

    def acked_names(self) -> list[tuple[str, str]]:
        return [
            (types.short(a.type_url), name)
            for a in self.acks
            if not a.brought
            for name in a.versions
        ]

    def in_step(self) -> bool:
        return bool(self.streams) and not self.streams[-1].pending


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = SnapshotStore()
        self.envoy = RealEnvoy(folder)
        self.one = folder
        self.two = folder
        self.patience = 10.0

    async def serve(self) -> Recorder:
        self.recorder = Recorder()
        self.server = AdsServer(
            self.store, SystemClock(), hooks=self.recorder, patience=self.patience
        )
        await self.server.start(self.folder / "ads.sock")
        return self.recorder

    def change(self, *upserts: Resource, remove: tuple[ResourceName, ...] = ()) -> None:
        self.store.apply("n1", Delta(upserts, remove))

    async def settled(self) -> None:
        await eventually(self.recorder.in_step)

    def has(self, resource: Resource) -> bool:
        acked = self.recorder.streams[-1].acked[resource.type_url]
        return acked.get(resource.name) == resource.version

    async def answers(self, path: str, expected: tuple[int, str]) -> None:
        async def holds() -> bool:
            return await self.envoy.get(path) == expected

        await eventually(holds)

    def start(self) -> None:
        """Serve /a from backend one."""
        self.change(
            listener(self.folder), scope("a", "one"), endpoints("one", self.one), cluster("one")
        )


@pytest_asyncio.fixture
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    folder = tmp_path_factory.mktemp("e")
    lab = Lab(folder)
    async with backend(folder, "one") as lab.one, backend(folder, "two") as lab.two:
        await lab.serve()
        try:
            async with running_envoy(folder, *AT_ONCE) as lab.envoy:
                yield lab
        finally:
            await lab.server.stop()


async def test_at_boot_routes_come_after_their_cluster(lab: Lab) -> None:
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    await lab.settled()
    order = [kind for kind, _ in lab.recorder.acked_names()]
    assert order.index("ScopedRouteConfiguration") > order.index("Cluster")
    assert order.index("ScopedRouteConfiguration") > order.index("ClusterLoadAssignment")
    assert lab.recorder.rejections == {}


async def test_change_and_removal_under_traffic_fail_no_request(lab: Lab) -> None:
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    results: list[tuple[int, str]] = []
    stop = asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            results.append(await lab.envoy.get("/a/x"))

    task = asyncio.create_task(traffic())
    try:
        lab.change(cluster("two"), endpoints("two", lab.two), scope("a", "two"),
                   remove=(ResourceName(types.CLUSTER, "one"),
                           ResourceName(types.ENDPOINTS, "one")))  # fmt: skip
        await eventually(lambda: (200, "two") in results)
        await lab.settled()
        lab.change(cluster("two", timeout="2s"))
        await lab.settled()
        count = len(results)
        await eventually(lambda: len(results) > count + 20)
    finally:
        stop.set()
        await task
    assert {status for status, _ in results} == {200}
    assert "one" not in lab.recorder.streams[-1].acked[types.CLUSTER]


async def test_changed_cluster_does_not_wait_for_its_endpoints(lab: Lab) -> None:
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    await lab.settled()
    loop = asyncio.get_running_loop()
    before = loop.time()
    changed = cluster("one", timeout="3s")
    lab.change(changed)
    stream = lab.recorder.streams[-1]
    await eventually(lambda: stream.acked[types.CLUSTER].get("one") == changed.version)
    assert loop.time() - before < 12.0  # without its endpoints: 15 s
    assert await lab.envoy.get("/a/x") == (200, "one")


def sharing(name: str, shared: str, timeout: str = "1s") -> Resource:
    """Return a cluster whose endpoints are those of another one."""
    content = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": ADS, "service_name": shared},
    }
    needs = [ResourceName(types.ENDPOINTS, shared)]
    made = body(cluster_pb2.Cluster(), content)
    return make_resource(types.CLUSTER, name, made, needs=needs)


async def test_clusters_that_share_endpoints_do_not_wait_for_them(lab: Lab) -> None:
    """A new one whose endpoints Envoy has already, then a changed one: else it is 15 s each."""
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    await lab.settled()
    loop = asyncio.get_running_loop()
    for timeout in ("1s", "3s"):
        before = loop.time()
        made = sharing("one|shown", "one", timeout)
        lab.change(made, scope("b", "one|shown"))
        await eventually(functools.partial(lab.has, made))
        await lab.answers("/b/x", (200, "one"))
        assert loop.time() - before < 12.0
    lab.change(remove=(ResourceName(types.SCOPE, "b"), ResourceName(types.CLUSTER, "one|shown")))
    await lab.settled()
    assert await lab.envoy.get("/a/x") == (200, "one")


def outside(resolver: int) -> Resource:
    """Return the cluster of an XBackend that asks for its name at a port of this machine."""
    place = External(hostname="silent.test", port=80, origin=ROUTE)
    name = NamespacedName("shop", "silent")
    made = external_cluster(name, place, Protocol.HTTP1, mesh=False, node_netns="")
    dns = dns_cluster_pb2.DnsCluster()
    made.cluster_type.typed_config.Unpack(dns)
    at = address_pb2.Address()
    at.socket_address.address, at.socket_address.port_value = "127.0.0.1", resolver
    asked = dns.typed_dns_resolver_config
    asked.name = "envoy.network.dns_resolver.cares"
    asked.typed_config.type_url = CARES
    asked.typed_config.value = framing.field(1, at.SerializeToString())  # resolvers
    made.cluster_type.typed_config.Pack(dns)
    return make_resource(types.CLUSTER, made.name, made.SerializeToString(deterministic=True))


async def test_a_name_that_nobody_answers_for_keeps_no_other_cluster_waiting(lab: Lab) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        lab.start()
        await lab.answers("/a/x", (200, "one"))
        lab.change(outside(silent.getsockname()[1]))
        await asyncio.to_thread(silent.recv, 512)  # it is asked
        before = asyncio.get_running_loop().time()
        lab.change(cluster("two"), endpoints("two", lab.two), scope("b", "two"))
        await lab.answers("/b/x", (200, "two"))
        assert asyncio.get_running_loop().time() - before < 15.0  # else: 20 s
    assert lab.recorder.rejections == {}


async def test_a_listener_that_comes_when_there_was_none_for_a_while_has_routes(lab: Lab) -> None:
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    front = listener(lab.folder)
    lab.change(remove=(front.key,))

    async def is_gone() -> bool:
        there = await lab.envoy.stats("listener_manager.total_listeners")
        return not any(there.values())

    await eventually(is_gone)
    lab.change(front)
    await lab.answers("/a/x", (200, "one"))


async def test_one_poisoned_scope_of_twenty_harms_no_other(lab: Lab) -> None:
    names = [f"s{i}" for i in range(20)]
    scopes = [scope(n, "one", regex="(" if n == "s7" else "") for n in names]
    lab.start()
    lab.change(*scopes)
    await lab.answers("/a/x", (200, "one"))
    await lab.settled()
    answers = {name: (await lab.envoy.get(f"/{name}/x"))[0] for name in names}
    assert answers == {name: 404 if name == "s7" else 200 for name in names}
    rejection = lab.recorder.rejections["s7"]
    assert "missing )" in rejection.detail
    assert rejection.origins == (ROUTE,)
    assert set(lab.recorder.streams[-1].rejected) == {ResourceName(types.SCOPE, "s7")}
    lab.change(scope("s7", "one"))
    await lab.answers("/s7/x", (200, "one"))
    assert lab.recorder.streams[-1].rejected == {}


async def test_poisoned_version_leaves_the_last_good_one(lab: Lab) -> None:
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    lab.change(scope("a", "one", regex="("))
    await eventually(lambda: "a" in lab.recorder.rejections)
    assert await lab.envoy.get("/a/x") == (200, "one")


async def test_one_poisoned_cluster_in_a_batch_is_found(lab: Lab) -> None:
    lab.start()
    lab.change(BAD, cluster("two"), endpoints("two", lab.two), scope("b", "two"))
    await lab.answers("/a/x", (200, "one"))
    await lab.answers("/b/x", (200, "two"))
    await eventually(lambda: "bad" in lab.recorder.rejections)
    await lab.settled()
    assert set(lab.recorder.rejections) == {"bad"}


async def test_poisoned_cluster_that_silences_envoy_is_found(lab: Lab) -> None:
    """With a good new cluster beside it, Envoy answers no cluster response any more."""
    await lab.server.stop()
    lab.patience = 2.0
    await lab.serve()
    lab.start()
    await lab.answers("/a/x", (200, "one"))
    await lab.settled()
    lab.change(BAD, cluster("two"), endpoints("two", lab.two), scope("b", "two"))
    await lab.answers("/b/x", (200, "two"))
    await eventually(lambda: "bad" in lab.recorder.rejections)
    await lab.settled()
    assert "ring hash" in lab.recorder.rejections["bad"].detail
    assert {"one", "two"} == set(lab.recorder.streams[-1].acked[types.CLUSTER])
    assert (await lab.envoy.stats("cluster_manager"))["cluster_manager.warming_clusters"] == 0


async def test_restarted_server_sends_only_the_difference(lab: Lab) -> None:
    lab.start()
    lab.change(cluster("two"), endpoints("two", lab.two), scope("b", "two"))
    await lab.answers("/b/x", (200, "two"))
    await lab.settled()
    await lab.server.stop()
    assert await lab.envoy.get("/a/x") == (200, "one")
    lab.change(
        cluster("one", timeout="7s"),
        remove=(
            ResourceName(types.SCOPE, "b"),
            ResourceName(types.CLUSTER, "two"),
            ResourceName(types.ENDPOINTS, "two"),
        ),
    )
    recorder = await lab.serve()
    await lab.answers("/b/x", (404, ""))
    await eventually(lambda: "two" not in recorder.streams[-1].acked[types.CLUSTER])
    await lab.settled()
    assert sorted(recorder.acked_names()) == [("Cluster", "one"), ("ClusterLoadAssignment", "one")]
    assert await lab.envoy.get("/a/x") == (200, "one")


class Relay:
    """What an agent does: keeps what the controller sends, and serves it to Envoy."""

    def __init__(self, store: SnapshotStore) -> None:
        self.store = store

    async def apply(
        self, type_url: str, upserts: Sequence[Resource], removals: Sequence[str]
    ) -> list[str]:
        gone = tuple(ResourceName(type_url, name) for name in removals)
        self.store.apply("n1", Delta(tuple(upserts), gone))
        return []

    def versions(self, type_url: str) -> dict[str, str]:
        return {n: r.version for n, r in self.store.peek("n1").of_type(type_url).items()}


async def test_controller_learns_through_the_agent_what_envoy_said(tmp_path: Path) -> None:
    folder, controller, agent, verdicts = (
        tmp_path,
        SnapshotStore(),
        SnapshotStore(),
        EnvoyVerdicts(),
    )
    relay = Relay(agent)
    known: dict[str, tuple[str, str, str]] = {}

    def take(_node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        if full:
            known.clear()
        known.update({k.name: (r.version, r.rejected, r.detail) for k, r in rows(report).items()})

    upper = AdsServer(controller, SystemClock(), on_report=take)
    lower = AdsServer(agent, SystemClock(), hooks=verdicts)
    client = AdsClient(
        f"unix:{folder / 'controller.sock'}",
        "n1",
        apply=relay.apply,
        versions=relay.versions,
        clock=SystemClock(),
        random=lambda: 0.0,
        reports=lambda: verdicts.reports("n1"),
    )
    good, bad = scope("a", "one"), scope("b", "one", regex="(")
    async with backend(folder, "one") as one, running_envoy(folder) as envoy:
        controller.replace(
            "n1", [listener(folder), cluster("one"), endpoints("one", one), good, bad]
        )
        await upper.start(folder / "controller.sock")
        await lower.start(folder / "ads.sock")
        task = asyncio.create_task(client.run())
        try:
            await eventually(lambda: known.get("a", ("",))[0] == good.version)
            await eventually(lambda: known.get("b", ("", ""))[1] == bad.version)
            assert "missing )" in known["b"][2]
            assert verdicts.rejections[0].origins == (ROUTE,)
            await upper.stop()
            assert await envoy.get("/a/x") == (200, "one")
        finally:
            task.cancel()
            await asyncio.wait({task})
            await upper.stop()
            await lower.stop()
