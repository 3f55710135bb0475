"""Gateways for the inside of a cluster: after any edits all is as from scratch; nothing raises."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.compile import Compiler
from penstock.compiler.generated_slices import every_generated
from penstock.compiler.nodes import EVERY_NODE
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support import objects
from support.edits import Edit, Present, edits, event_of

CLUSTER = Settings(
    reach=Reach.CLUSTER, gateway_pool="192.0.2.0/30", system_namespace="penstock-system"
)
NAMES, NODES = ("gw", "other", "third"), ("n1", "n2")
VALUES = ("", "10.96.0.200", "10.96.0.201", "10.97.0.5", "192.0.2.1", "fd00::5", "gw.test", "7")
Thing = Object | Broken

addresses = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["IPAddress", "IPAddress", "Hostname", "x.test/kind"]),
            "value": st.sampled_from(VALUES),
            "routability": st.sampled_from(["", "Cluster", "Cluster", "x.test/far"]),
        },
    ),
    max_size=3,
)


def _gateway(name: str, asked: list[dict[str, Any]], day: int) -> Thing:
    return objects.gateway(name, addresses=asked, since=f"2026-01-0{day}T00:00:00Z")


def _service(name: str, label: str, kind: str) -> Thing:
    return objects.generated_service(name, 30001, label=label, kind=kind)


def _envoy(node: str) -> Thing:
    labels = {"app.kubernetes.io/name": "penstock-envoy"}
    return objects.pod(
        f"e-{node}", f"10.244.{node[1]}.9", labels, namespace="penstock-system", node=node
    )


names = st.sampled_from(NAMES)
things = st.one_of(
    st.builds(_gateway, names, addresses, st.integers(1, 3)),
    st.builds(_gateway, names, addresses, st.integers(1, 3)),
    st.builds(_service, names, names, st.sampled_from(["ClusterIP", "LoadBalancer"])),
    st.builds(objects.generated_slice, names, st.sampled_from([16_384, 16_385, 80])),
    st.builds(_envoy, st.sampled_from(NODES)),
    st.builds(objects.node, st.just("n1"), st.just("172.31.0.10"), ready=st.booleans()),
    st.builds(objects.node, st.just("n2"), st.just("172.31.0.11"), ready=st.booleans()),
    st.builds(objects.service_cidr, st.sampled_from(["10.96.0.0/16", "10.0.0.0/8", "fd00::/112"])),
)
modes = st.sampled_from(list(Addressing))


@given(st.lists(things, max_size=12), edits(things, 8), modes)
@settings(max_examples=80, deadline=None)
def test_all_is_as_from_scratch(
    start: list[Thing], changes: list[Edit], addressing: Addressing
) -> None:
    chosen = msgspec.structs.replace(CLUSTER, addressing=addressing)
    compiler, present = Compiler(chosen), {one.ref: one for one in start}
    compiler.apply(objects.added([objects.gateway_class(), *present.values()]))
    compiler.generated.follow()
    for edit in changes:
        before = _followed(compiler, present)
        event = event_of(present, edit)
        if event is not None:
            compiler.apply([event])
            assert compiler.failures == {}
            told = {*compiler.statuses.take(), event.object.ref}
            after = _statuses(compiler, present)
            assert {one for one in after if one in before and after[one] != before[one]} <= told
            compiler.statuses.clear()
    scratch = Compiler(chosen)
    scratch.apply(objects.added([objects.gateway_class(), *present.values()]))
    for node in (EVERY_NODE, *NODES):
        assert compiler.resources(node) == scratch.resources(node)
    wanted = every_generated.once(scratch.db, None)
    assert every_generated.once(compiler.db, None) == wanted
    assert {ref: compiler.generated.wanted(ref) for ref in wanted} == wanted
    assert _statuses(compiler, present) == _statuses(scratch, present)


def _followed(compiler: Compiler, present: Present) -> dict[ObjectRef, Any]:
    """Have all statuses followed; return them."""
    for ref in present:
        compiler.statuses.follow(ref)
    compiler.statuses.take()
    return _statuses(compiler, present)


def _statuses(compiler: Compiler, present: Present) -> dict[ObjectRef, Any]:
    return {ref: status_of(compiler.db, one, lambda _: None) for ref, one in present.items()}
