"""The work for one change depends on the change and not on how much else there is."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler, NodeChange
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
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
