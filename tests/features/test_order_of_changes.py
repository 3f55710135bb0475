"""In which order clients get what the compiler makes: nothing is named before it is there."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.nodes import EVERY_NODE
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.snapshot import Snapshot
from support import objects
from support.fake_envoy import FakeEnvoy, converge

NODE = "n1"


class Chain:
    """A compiler, a snapshot for one node, and a client of it."""

    def __init__(self, client: FakeEnvoy, things: Iterable[Object | Broken]) -> None:
        self.compiler = Compiler()
        self.compiler.apply(objects.added(things))
        self.snapshot = Snapshot(self.compiler.resources(NODE))
        self.client = client
        self.stream = DeltaStream(self.snapshot)
        self.now = 0.0
        client.connect()
        self._settle()

    def change(self, kind: EventType, *things: Object | Broken) -> list[str]:
        """Return "Type name" of what the client got and "-Type name" of what it lost, in order."""
        self.client.received.clear()
        for change in self.compiler.apply([Event(kind, one) for one in things]):
            if change.node in (EVERY_NODE, NODE):
                self.stream.on_change(self.snapshot.apply(change.delta))
        self._settle()
        return self.messages()

    def messages(self) -> list[str]:
        return [
            text
            for short, names, removed in self.client.received
            for text in (
                *(f"{short} {name}" for name in names),
                *(f"-{short} {name}" for name in removed),
            )
        ]

    def _settle(self) -> None:
        self.now = converge(self.client, self.stream, self.now)
        wanted = {one.key: one.version for one in self.snapshot}
        urls = {key.type_url for key in self.client.has}
        held = {key: one.version for key, one in self.client.has.items()}
        assert held == {key: version for key, version in wanted.items() if key.type_url in urls}


def _agent() -> FakeEnvoy:
    """Return a client that asks for everything of every type, as an agent does."""
    return FakeEnvoy(wildcards=types.SENDING_ORDER, eds=False)


def _service(name: str, number: int) -> list[Object | Broken]:
    return [
        objects.service(name, f"10.96.0.{number}"),
        objects.endpoint_slice(name, [f"10.244.0.{number}"]),
    ]


def _mesh(service: str, *backends: str) -> Object | Broken:
    return objects.http_route(
        "mesh", parent=objects.on_service(service), backends=[(name, 1) for name in backends]
    )


BASE = [
    objects.gateway_class(),
    objects.gateway("front"),
    *_service("orders", 1),
    *_service("new", 2),
    objects.pod("orders-0", "10.244.0.1", {"app": "orders"}),
]


@pytest.mark.parametrize("client", [FakeEnvoy(), _agent()], ids=["Envoy", "agent"])
def test_a_route_comes_after_cluster_endpoints_and_rules(client: FakeEnvoy) -> None:
    chain = Chain(client, BASE)
    got = chain.change(EventType.ADDED, _mesh("orders", "new"))
    first = got.index("ScopedRouteConfiguration eg|10.96.0.1:80")
    before = {"Cluster mesh|shop/new/80", "ClusterLoadAssignment mesh|shop/new/80"}
    if client.eds is False:
        before |= {"TypedExtensionConfig eg|shop/new/80", "TypedExtensionConfig in|shop/new/80"}
        assert got.index("Service shop/orders/80/tcp") > first
    assert before <= set(got[:first])


@pytest.mark.parametrize("client", [FakeEnvoy(), _agent()], ids=["Envoy", "agent"])
def test_a_cluster_leaves_after_the_routes_to_it_and_before_its_endpoints(
    client: FakeEnvoy,
) -> None:
    chain = Chain(client, [*BASE, _mesh("orders", "new")])
    got = chain.change(EventType.DELETED, _mesh("orders", "new"))
    scope = got.index("-ScopedRouteConfiguration eg|10.96.0.1:80")
    cluster = got.index("-Cluster mesh|shop/new/80")
    assert scope < cluster
    if client.eds is False:
        assert cluster < got.index("-ClusterLoadAssignment mesh|shop/new/80")
        assert got.index("Service shop/orders/80/tcp") < scope


def test_routes_are_turned_away_from_a_service_before_its_clusters_leave() -> None:
    gateway = objects.http_route("g", parent={"name": "front"}, backends=[("new", 1)])
    chain = Chain(_agent(), [*BASE, gateway, _mesh("orders", "new")])
    got = chain.change(EventType.DELETED, *_service("new", 2))
    clusters = [got.index(f"-Cluster {role}|shop/new/80") for role in ("mesh", "gw")]
    scopes = [
        got.index(f"ScopedRouteConfiguration {name}")
        for name in ("eg|10.96.0.1:80", "gw|shop/front/80|*")
    ]
    assert max(scopes) < min(clusters)


def test_a_gateway_leaves_listener_first() -> None:
    gateway = objects.http_route("g", parent={"name": "front"}, backends=[("new", 1)])
    chain = Chain(_agent(), [*BASE, gateway])
    got = chain.change(EventType.DELETED, objects.gateway("front"), gateway)
    order = [
        "-Listener gateway/shop/front/80",
        "-ScopedRouteConfiguration gw|shop/front/80|*",
        "-TypedExtensionConfig eg|shop/new/80",
        "-Cluster gw|shop/new/80",
        "-ClusterLoadAssignment gw|shop/new/80",
    ]
    assert [one for one in got if one in order] == order


def test_a_workload_comes_after_its_policy_and_leaves_before_it() -> None:
    chain = Chain(_agent(), BASE)
    pod = objects.pod("lone-0", "10.244.0.9", {"app": "lone"})
    came = [one.split()[0] for one in chain.change(EventType.ADDED, pod)]
    assert came == ["Listener", "Listener", "Policy", "Workload"]
    gone = [one.split()[0] for one in chain.change(EventType.DELETED, pod)]
    assert gone == ["-Workload", "-Policy", "-Listener", "-Listener"]


def test_weights_come_before_the_routes_that_use_them() -> None:
    chain = Chain(_agent(), BASE)
    got = chain.change(EventType.ADDED, _mesh("orders", "orders", "new"))
    assert got.index("Runtime penstock") < got.index("ScopedRouteConfiguration eg|10.96.0.1:80")


def test_a_client_that_comes_back_gets_nothing_twice() -> None:
    chain = Chain(_agent(), [*BASE, _mesh("orders", "new")])
    client = chain.client
    client.received.clear()
    client.connect()
    converge(client, DeltaStream(chain.snapshot))
    assert chain.messages() == []
