"""Edits of a cluster in which everything refers to something: incremental equals from scratch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.nodes import EVERY_NODE
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.core.objects import Broken, Object
from penstock.xds.snapshot import Snapshot
from support import objects, populated
from support.edits import Edit, edits, event_of
from support.populated import Things
from support.populated_backends import NODES

WAYS = [
    Settings(),
    Settings(reach=Reach.CLUSTER, gateway_pool=populated.POOL),
    Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES),
]
ADDRESSES: dict[str, str] = dict(zip(NODES, ("192.0.2.101", "192.0.2.102"), strict=True))


def _node(name: str, ready: bool) -> Object | Broken:  # noqa: FBT001  # as hypothesis calls it
    return objects.node(name, ADDRESSES[name], ready=ready)


nodes = st.builds(_node, st.sampled_from(NODES), st.booleans())


@given(
    st.sampled_from(WAYS),
    populated.clusters(),
    edits(st.one_of(populated.one_object(), populated.one_object(), nodes), 12),
    st.one_of(st.just([]), populated.clusters()),
)
@settings(max_examples=120, deadline=None)
def test_a_followed_snapshot_is_what_a_new_compiler_makes(
    way: Settings, start: Things, changes: list[Edit], other: Things
) -> None:
    """After a few edits, and those that make it another cluster in which all belongs together."""
    compiler = Compiler(way)
    every = [*start, *(objects.node(name, address) for name, address in ADDRESSES.items())]
    present = {one.ref: one for one in every}
    compiler.apply(objects.added(every))
    snapshots = {node: Snapshot(compiler.resources(node)) for node in NODES}
    for what in (*changes, *other):
        event = event_of(present, what)
        if event is None:
            continue
        for change in compiler.apply([event]):
            for node, snapshot in snapshots.items():
                if change.node in (EVERY_NODE, node):
                    applied = snapshot.apply(change.delta)
                    assert applied == change.delta  # nothing is told that is not so
        assert compiler.failures == {}
    fresh = Compiler(way)
    fresh.apply(objects.added(present.values()))
    for node, snapshot in snapshots.items():
        wanted = {one.key: one.framed for one in fresh.resources(node)}
        assert {one.key: one.framed for one in snapshot} == wanted
