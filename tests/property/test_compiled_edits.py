"""Edits of a cluster in which everything refers to something: incremental equals from scratch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.roots import EVERY_NODE
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.xds.snapshot import Snapshot
from support import objects, populated
from support.populated import NODES, Things

edits = st.lists(
    st.one_of(
        st.tuples(st.just("put"), populated.one_object()),
        st.tuples(st.just("delete"), st.integers(0, 1000)),
    ),
    max_size=12,
)


@given(populated.clusters(), edits)
@settings(max_examples=60, deadline=None)
def test_a_followed_snapshot_is_what_a_new_compiler_makes(
    start: Things, changes: list[tuple[str, Object | Broken | int]]
) -> None:
    compiler = Compiler()
    present = {one.ref: one for one in start}
    compiler.apply(objects.added(start))
    snapshots = {node: Snapshot(compiler.resources(node)) for node in NODES}
    for _, what in changes:
        event = _event(present, what)
        if event is None:
            continue
        for change in compiler.apply([event]):
            for node, snapshot in snapshots.items():
                if change.node in (EVERY_NODE, node):
                    applied = snapshot.apply(change.delta)
                    assert applied == change.delta  # nothing is told that is not so
        assert compiler.failures == {}
    fresh = Compiler()
    fresh.apply(objects.added(present.values()))
    for node, snapshot in snapshots.items():
        wanted = {one.key: one.framed for one in fresh.resources(node)}
        assert {one.key: one.framed for one in snapshot} == wanted


def _event(present: dict[ObjectRef, Object | Broken], what: Object | Broken | int) -> Event | None:
    """Make an edit of *present* and return it as a source would tell it."""
    if isinstance(what, int):
        if not present:
            return None
        ref = sorted(present)[what % len(present)]
        return Event(EventType.DELETED, present.pop(ref))
    kind = EventType.MODIFIED if what.ref in present else EventType.ADDED
    present[what.ref] = what
    return Event(kind, what)
