"""Edits of a cluster in which everything refers to something: incremental equals from scratch."""

from __future__ import annotations

from hypothesis import given, settings

from penstock.compiler.compile import Compiler
from penstock.compiler.nodes import EVERY_NODE
from penstock.xds.snapshot import Snapshot
from support import objects, populated
from support.edits import Edit, edits, event_of
from support.populated import Things
from support.populated_backends import NODES


@given(populated.clusters(), edits(populated.one_object(), 12))
@settings(max_examples=60, deadline=None)
def test_a_followed_snapshot_is_what_a_new_compiler_makes(
    start: Things, changes: list[Edit]
) -> None:
    compiler = Compiler()
    present = {one.ref: one for one in start}
    compiler.apply(objects.added(start))
    snapshots = {node: Snapshot(compiler.resources(node)) for node in NODES}
    for what in changes:
        event = event_of(present, what)
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
