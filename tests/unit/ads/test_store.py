"""A node costs what it has of its own; what every node has is held and changed once."""

from __future__ import annotations

from penstock.ads.store import SnapshotStore
from penstock.xds import types
from penstock.xds.resource import make_resource
from penstock.xds.snapshot import Delta

C1 = make_resource(types.CLUSTER, "c", b"1")
C2 = make_resource(types.CLUSTER, "c", b"2")
L = make_resource(types.LISTENER, "l", b"1")


def test_every_node_is_told_a_change_of_what_all_have() -> None:
    store = SnapshotStore()
    told: dict[str, list[Delta]] = {"a": [], "b": []}
    for node, deltas in told.items():
        store.subscribe(node, deltas.append)
    store.apply_to_all(Delta((C1,)))
    assert told == {"a": [Delta((C1,))], "b": [Delta((C1,))]}
    assert told["a"][0] is told["b"][0]
    assert not store.apply_to_all(Delta((C1,)))
    assert len(told["a"]) == 1


def test_a_node_that_comes_later_has_what_all_have() -> None:
    store = SnapshotStore()
    store.apply_to_all(Delta((C1,)))
    store.apply("a", Delta((L,)))
    assert list(store.peek("a")) == [C1, L]
    assert list(store.peek("b")) == [C1]


def test_a_node_with_its_own_is_not_told_of_what_it_hides() -> None:
    store = SnapshotStore()
    store.apply_to_all(Delta((C1,)))
    store.apply("a", Delta((C2,)))
    told: list[Delta] = []
    store.subscribe("a", told.append)
    store.apply_to_all(Delta((), (C1.key,)))
    assert told == []
    assert list(store.peek("a")) == [C2]


def test_what_goes_from_one_node_to_all_stays_at_that_node() -> None:
    store = SnapshotStore()
    store.apply("a", Delta((C1,)))
    told: list[Delta] = []
    store.subscribe("a", told.append)
    store.apply_to_all(Delta((C1,)))
    store.apply("a", Delta((), (C1.key,)))
    assert [delta.removals for delta in told] == [()]
    assert list(store.peek("a")) == [C1]


def test_replace_is_of_what_a_node_has_of_its_own() -> None:
    store = SnapshotStore()
    store.apply_to_all(Delta((C1,)))
    store.replace("a", [L])
    assert list(store.peek("a")) == [C1, L]
    assert store.replace("a", []) == Delta((), (L.key,))
    assert list(store.peek("a")) == [C1]


def test_what_is_kept_for_a_node_goes_when_nobody_needs_it() -> None:
    store = SnapshotStore()
    store.apply_to_all(Delta((C1,)))
    store.apply("a", Delta((L,)))
    unsubscribe = store.subscribe("a", lambda _: None)
    assert not store.drop("a")
    unsubscribe()
    assert not store.drop("a")
    store.apply("a", Delta((), (L.key,)))
    before = store.peek("a")
    assert store.drop("a")
    assert store.peek("a") is not before
    assert list(store.peek("a")) == [C1]
    assert store.drop("never seen")
