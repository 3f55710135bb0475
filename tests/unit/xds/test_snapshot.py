from __future__ import annotations

from penstock.xds import types
from penstock.xds.resource import ResourceName, make_resource
from penstock.xds.snapshot import Delta, Snapshot

C1 = make_resource(types.CLUSTER, "c", b"1")
C2 = make_resource(types.CLUSTER, "c", b"2")
D = make_resource(types.CLUSTER, "d", b"1")
S = make_resource(types.SCOPE, "s", b"1", needs=[C1.key, D.key])


def test_apply_returns_only_what_changed() -> None:
    snapshot = Snapshot([C1])
    missing = ResourceName(types.LISTENER, "x")
    assert snapshot.apply(Delta((C1, D), (missing,))) == Delta((D,))
    assert not snapshot.apply(Delta((C1, D)))
    assert snapshot.apply(Delta((C2,), (D.key,))) == Delta((C2,), (D.key,))
    assert list(snapshot) == [C2]


def test_difference_leads_to_the_target() -> None:
    snapshot = Snapshot([C1, D])
    delta = snapshot.difference([C2, S])
    assert delta == Delta((C2, S), (D.key,))
    snapshot.apply(delta)
    assert set(snapshot) == {C2, S}
    assert not snapshot.difference([S, C2])


def test_resources_come_in_sending_order() -> None:
    strange = make_resource("type.googleapis.com/strange", "z", b"")
    assert list(Snapshot([strange, S, C1])) == [C1, S, strange]


def test_missing_needs_are_problems() -> None:
    snapshot = Snapshot([C1, S])
    (problem,) = snapshot.problems()
    assert problem.path == "ScopedRouteConfiguration s"
    assert "Cluster d" in problem.message
    snapshot.apply(Delta((D,)))
    assert snapshot.problems() == ()


def test_view_of_a_type_is_live_and_read_only() -> None:
    snapshot = Snapshot([C1])
    clusters = snapshot.of_type(types.CLUSTER)
    snapshot.apply(Delta((D,)))
    assert set(clusters) == {"c", "d"}
    assert len(snapshot) == 2
    assert snapshot.of_type(types.SCOPE) == {}
