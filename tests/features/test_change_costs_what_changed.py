"""The work for one change depends on the change and not on how much else there is."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.published import NodeChange
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support import mesh, objects

SMALL, LARGE = 100, 5_000


def _changed(compiler: Compiler, *things: Object | Broken) -> tuple[int, tuple[NodeChange, ...]]:
    before = compiler.db.engine.runs
    changes = compiler.apply([Event(EventType.MODIFIED, thing) for thing in things])
    return compiler.db.engine.runs - before, changes


@pytest.fixture(scope="module")
def clusters() -> tuple[Compiler, Compiler]:
    made = Compiler(), Compiler()
    for compiler, count in zip(made, (SMALL, LARGE), strict=True):
        compiler.apply(objects.added(mesh.cluster(count)))
        assert compiler.failures == {}
    return made


def _names(changes: tuple[NodeChange, ...]) -> list[str]:
    return [f"{r.type_url.rpartition('.')[2]} {r.name}" for c in changes for r in c.delta.upserts]


def test_one_route(clusters: tuple[Compiler, Compiler]) -> None:
    found = [_changed(compiler, mesh.route(7, path="/new")) for compiler in clusters]
    # The small one keeps weights in the runtime, so it looks at them too.
    assert found[1][0] <= found[0][0]
    names = ["ScopedRouteConfiguration eg|10.96.0.8:80"]
    assert [_names(changes) for _, changes in found] == [names, names]


def test_one_endpoint(clusters: tuple[Compiler, Compiler]) -> None:
    moved = objects.endpoint_slice(mesh.name_of(7), [mesh.address(244, 7), mesh.address(244, 27)])
    found = [_changed(compiler, moved) for compiler in clusters]
    assert found[0][0] == found[1][0]
    # The neighbour's route leads here too, so the kernel judges its clients by the new endpoint.
    names = [
        "ClusterLoadAssignment mesh|shop/svc-7/80",
        "Service shop/svc-7/80/tcp",
        "Service shop/svc-8/80/tcp",
    ]
    assert [_names(changes) for _, changes in found] == [names, names]


def test_one_more_pod_of_a_known_kind(clusters: tuple[Compiler, Compiler]) -> None:
    more = objects.pod("more", "10.244.200.1", {"app": "app-3"})
    found = [_changed(compiler, more) for compiler in clusters]
    assert found[0][0] == found[1][0]


def test_one_weight_is_one_runtime_layer_where_few_routes_share_requests() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(mesh.cluster(SMALL)))
    _, changes = _changed(compiler, mesh.route(7, weight=10))
    assert _names(changes) == ["Runtime penstock"]


def test_one_weight_is_one_scope_where_many_routes_share_requests(
    clusters: tuple[Compiler, Compiler],
) -> None:
    _, changes = _changed(clusters[1], mesh.route(9, weight=10))
    assert _names(changes) == ["ScopedRouteConfiguration eg|10.96.0.10:80"]


GATEWAY = ObjectRef("Gateway", "shop", "edge")


def _gateway_route(name: str, hostname: str, kind: str = "HTTPRoute") -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "parentRefs": [{"name": "edge"}],
                "hostnames": [hostname],
                "rules": [{"backendRefs": [{"name": "app", "port": 80}]}],
            },
        }
    )


@pytest.fixture(scope="module")
def gateways() -> tuple[Compiler, Compiler]:
    """Return a small and a large Gateway whose statuses, and those of routes, are followed."""
    made = Compiler(), Compiler()
    for compiler, count in zip(made, (SMALL, LARGE), strict=True):
        common = [
            objects.gateway_class(),
            objects.gateway("edge"),
            objects.service("app", "10.96.0.1"),
            objects.endpoint_slice("app", ["10.244.0.1"]),
        ]
        routes = [_gateway_route(f"r-{i}", f"app-{i}.example.test") for i in range(count)]
        compiler.apply(objects.added([*common, *routes]))
        assert compiler.failures == {}
        for ref in (GATEWAY, *(route.ref for route in routes)):
            compiler.statuses.follow(ref)
        compiler.statuses.take()
    return made


def _came_and_went(compiler: Compiler, route: Object | Broken) -> list[tuple[int, list[str]]]:
    """Return how many queries a route more takes, and a route less, and what changes."""
    found: list[tuple[int, list[str]]] = []
    for kind in (EventType.ADDED, EventType.DELETED):
        before = compiler.db.engine.runs
        changes = compiler.apply([Event(kind, route)])
        removed = [f"-{one.name}" for change in changes for one in change.delta.removals]
        found.append((compiler.db.engine.runs - before, [*_names(changes), *removed]))
        assert GATEWAY in compiler.statuses.take()
    return found


@pytest.mark.parametrize("hostname", ["new.example.test", "app-7.example.test", "*.new.test"])
def test_one_more_route_of_a_gateway(gateways: tuple[Compiler, Compiler], hostname: str) -> None:
    new = _gateway_route("new", hostname)
    few, many = (_came_and_went(compiler, new) for compiler in gateways)
    assert [names for _, names in few] == [names for _, names in many]
    for (small, _), (large, _) in zip(few, many, strict=True):
        assert large <= small + 2  # the parts of parts of the routes in which it is counted


def test_one_more_hostname_is_one_scope(gateways: tuple[Compiler, Compiler]) -> None:
    came, went = _came_and_went(gateways[1], _gateway_route("new", "new.example.test"))
    scope = "gw|shop/edge/80|new.example.test"
    assert (came[1], went[1]) == ([f"ScopedRouteConfiguration {scope}"], [f"-{scope}"])


def test_a_second_kind_of_routes_looks_for_contests_once(
    gateways: tuple[Compiler, Compiler],
) -> None:
    first, second = (
        _gateway_route(f"grpc-{i}", f"grpc-{i}.example.test", "GRPCRoute") for i in range(2)
    )
    found: list[list[int]] = []
    for compiler in gateways:
        compiler.apply([Event(EventType.ADDED, first)])
        found.append([runs for runs, _ in _came_and_went(compiler, second)])
        compiler.apply([Event(EventType.DELETED, first)])
    small, large = found
    assert all(b <= a + 2 for a, b in zip(small, large, strict=True))
