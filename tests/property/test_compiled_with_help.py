"""A compiler that shares the first batch: at once complete, and afterwards like any other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.lent import Sharing
from penstock.compiler.nodes import EVERY_NODE
from penstock.compiler.settings import Reach, Settings
from penstock.xds.snapshot import Snapshot
from support import objects, populated
from support.edits import Edit, edits, event_of
from support.lenders import Lender
from support.populated import Things
from support.populated_backends import NODES

WAYS = [Settings(), Settings(reach=Reach.CLUSTER, gateway_pool=populated.POOL)]


def _sharing(parts: int | None, part: int) -> Sharing:
    """Return a way in which *parts* of *part* roots each are lent, None is all."""
    return Sharing(Lender(parts), many=1, part=part)


sharings = st.builds(_sharing, st.one_of(st.none(), st.integers(0, 8)), st.integers(1, 5))


@given(
    st.sampled_from(WAYS),
    populated.clusters(),
    sharings,
    edits(populated.one_object(), 6),
    st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_what_is_lent_is_what_is_compiled(
    way: Settings, start: Things, sharing: Sharing, changes: list[Edit], turn: int
) -> None:
    """Edits come while the compiler catches up."""
    every = [*start, *(objects.node(name, f"192.0.2.{i}") for i, name in enumerate(NODES))]
    compiler = Compiler(way, sharing)
    compiler.apply(objects.added(every))
    _assert_same(compiler, _fresh(way, every))
    snapshots = {node: Snapshot(compiler.resources(node)) for node in NODES}
    present = {one.ref: one for one in every}
    for change in changes:
        event = event_of(present, change)
        told = () if event is None else compiler.apply([event])
        for changed in (*told, *compiler.catch_up(turn)):
            for node, snapshot in snapshots.items():
                if changed.node in (EVERY_NODE, node):
                    assert snapshot.apply(changed.delta) == changed.delta
    while compiler.behind:
        for changed in compiler.catch_up(turn):
            for node, snapshot in snapshots.items():
                if changed.node in (EVERY_NODE, node):
                    assert snapshot.apply(changed.delta) == changed.delta
    assert compiler.failures == {}
    fresh = _fresh(way, list(present.values()))
    _assert_same(compiler, fresh)
    for node, snapshot in snapshots.items():
        wanted = {one.key: one.framed for one in fresh.resources(node)}
        assert {one.key: one.framed for one in snapshot} == wanted


def _fresh(way: Settings, things: Things) -> Compiler:
    compiler = Compiler(way)
    compiler.apply(objects.added(things))
    return compiler


def _assert_same(one: Compiler, other: Compiler) -> None:
    assert one.nodes == other.nodes
    for node in NODES:
        wanted = {resource.key: resource.framed for resource in other.resources(node)}
        assert {resource.key: resource.framed for resource in one.resources(node)} == wanted
