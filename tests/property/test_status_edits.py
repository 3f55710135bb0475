"""Statuses after any edits are those from scratch, and everybody whose status changes hears it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.acked import Acked
from penstock.compiler.compile import Compiler
from penstock.compiler.kinds import STATUS_KINDS
from penstock.compiler.nodes import EVERY_NODE
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.versions import (
    BUNDLE_VERSION,
    CHANNEL,
    CLASSES_CRD,
    GATEWAYS_CRD,
    XBACKENDS_CRD,
)
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from support import objects, populated, populated_listeners
from support.edits import Edit, Present, edits, event_of
from support.pool_cluster import AT_NODES
from support.populated import Things

IN_FORCE = Acked(Condition(type="DataPlaneAcked", status=True, reason="Acked"))


def _crd(name: str, version: str) -> Object | Broken:
    group = name.partition(".")[2]
    annotations = {BUNDLE_VERSION: version, CHANNEL: "experimental"}
    return objects.made({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"group": group},
    })  # fmt: skip


_crds = st.builds(
    _crd,
    st.sampled_from((CLASSES_CRD, GATEWAYS_CRD, XBACKENDS_CRD)),
    st.sampled_from(("v1.1.0", "v1.6.3", "v1.7.0")),
)


@given(populated.clusters(), edits(st.one_of(populated.one_object(), _crds), 8))
@settings(max_examples=25, deadline=None)
def test_statuses_of_a_populated_cluster(start: Things, changes: list[Edit]) -> None:
    _as_from_scratch(start, changes)


@given(populated_listeners.clusters_of_rivals(), edits(populated_listeners.one_of_rivals(), 8))
@settings(max_examples=60, deadline=None)
def test_statuses_where_gateways_share_the_ports_of_nodes(
    start: Things, changes: list[Edit]
) -> None:
    _as_from_scratch(start, changes, AT_NODES)


@given(populated_listeners.clusters(), edits(populated_listeners.one_object(), 8))
@settings(max_examples=60, deadline=None)
def test_statuses_of_listeners_in_each_others_way(start: Things, changes: list[Edit]) -> None:
    _as_from_scratch(start, changes)


def _as_from_scratch(start: Things, changes: list[Edit], chosen: Settings | None = None) -> None:
    compiler, present = Compiler(chosen), {one.ref: one for one in start}
    compiler.apply(objects.added(start))
    for edit in changes:
        before = _followed(compiler, present)
        event = event_of(present, edit)
        if event is None:
            continue
        compiler.apply([event])
        told = {*compiler.statuses.take(), event.object.ref}
        after = _statuses(compiler, present)
        assert {one for one in after if one in before and after[one] != before[one]} <= told
        compiler.statuses.clear()
    scratch = Compiler(chosen)
    scratch.apply(objects.added(present.values()))
    assert compiler.failures == scratch.failures == {}
    assert _statuses(compiler, present) == _statuses(scratch, present)
    for one in present.values():
        assert problems_of(compiler.db, one) == problems_of(scratch.db, one)
    assert compiler.resources(EVERY_NODE) == scratch.resources(EVERY_NODE)
    _chains_differ(compiler)


def _followed(compiler: Compiler, present: Present) -> dict[ObjectRef, Any]:
    """Have all statuses followed; return them."""
    for ref in present:
        compiler.statuses.follow(ref)
    compiler.apply([])
    compiler.statuses.take()
    return _statuses(compiler, present)


def _statuses(compiler: Compiler, present: Present) -> dict[ObjectRef, Any]:
    return {
        ref: status_of(compiler.db, one, lambda _: IN_FORCE)
        for ref, one in present.items()
        if ref.kind in STATUS_KINDS
    }


def _chains_differ(compiler: Compiler) -> None:
    """Look that no two filter chains of a listener match the same: Envoy would refuse them all."""
    for one in compiler.resources(EVERY_NODE):
        if one.type_url == types.LISTENER:
            made = listener_pb2.Listener.FromString(one.body)
            chains = made.filter_chains
            matches = {str(each.filter_chain_match) for each in chains}
            assert len(matches) == len(chains), one.name
