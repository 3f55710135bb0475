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


def test_a_snapshot_shows_its_base_beneath_its_own() -> None:
    base = Snapshot([C1, S])
    snapshot = Snapshot([C2, D], over=base)
    assert list(snapshot) == [C2, D, S]
    assert len(snapshot) == len(list(snapshot))
    assert snapshot.get(types.SCOPE, "s") == S
    assert dict(snapshot.of_type(types.CLUSTER)) == {"c": C2, "d": D}
    assert list(base) == [C1, S]


def test_a_type_is_a_live_view_of_both_layers() -> None:
    base = Snapshot()
    snapshot = Snapshot(over=base)
    clusters = snapshot.of_type(types.CLUSTER)
    base.apply(Delta((C1,)))
    snapshot.apply(Delta((D,)))
    assert dict(clusters) == {"c": C1, "d": D}
    assert len(clusters) == 2
    assert "x" not in clusters


def test_what_hid_a_resource_of_the_base_shows_it_again() -> None:
    base = Snapshot([C1])
    snapshot = Snapshot([C2, D], over=base)
    assert snapshot.apply(Delta((), (C2.key, D.key))) == Delta((C1,), (D.key,))
    assert list(snapshot) == [C1]
    assert not snapshot.apply(Delta((), (C1.key,)))
    assert list(snapshot) == [C1]


def test_a_change_of_the_base_is_seen_unless_it_is_hidden() -> None:
    base = Snapshot([C1])
    change = base.apply(Delta((C2, D)))
    hiding, plain = Snapshot([C1], over=base), Snapshot(over=base)
    assert hiding.seen(change) == Delta((D,))
    assert plain.seen(change) is change
    gone = base.apply(Delta((), (C2.key, D.key)))
    assert hiding.seen(gone) == Delta((), (D.key,))
    assert list(hiding) == [C1]
    assert list(plain) == []


def test_the_difference_leaves_the_base_alone() -> None:
    snapshot = Snapshot([D], over=Snapshot([C1, S]))
    assert snapshot.difference([C2]) == Delta((C2,), (D.key,))
