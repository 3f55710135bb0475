"""What nodes say, summed up for objects: counted by nodes, whichever controller serves them."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from penstock.compiler.nodes import EVERY_NODE
from penstock.controlplane.acknowledgements import Acknowledgements
from penstock.meta.names import ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta
from support.fake_clock import FakeClock

ROUTE = ObjectRef("HTTPRoute", "shop", "orders")
OTHER = ObjectRef("HTTPRoute", "shop", "other")


def resource(name: str, body: bytes = b"1", *refs: ObjectRef) -> Resource:
    origins = [Origin(ref, "spec") for ref in refs or (ROUTE,)]
    return make_resource(types.SCOPE, name, body, origins)


A1, A2, A3 = (resource("a", body) for body in (b"1", b"2", b"3"))


def report(
    acks: Acknowledgements,
    node: str,
    *runs: Resource,
    full: bool = True,
    refuses: Resource | None = None,
    gone: Resource | None = None,
) -> None:
    said = node_pb2.NodeReport(node=node)
    for one in runs:
        if refuses is None or one.key != refuses.key:
            said.in_force.add(type_url=one.type_url, versions={one.name: one.version})
    if gone is not None:
        said.resources.add(type_url=gone.type_url, name=gone.name)
    if refuses is not None:
        kept = next((one.version for one in runs if one.key == refuses.key), "")
        said.resources.add(
            type_url=refuses.type_url, name=refuses.name,
            version=kept, rejected_version=refuses.version, detail="bad regex",
        )  # fmt: skip
    acks.on_report(node, said, full)


def told(acks: Acknowledgements, ref: ObjectRef = ROUTE) -> tuple[str, str]:
    found = acks.acked(ref)
    assert found is not None
    return found.condition.reason, found.condition.message


@pytest.fixture
def acks() -> Acknowledgements:
    """Return what knows of two nodes that have the first version."""
    made = Acknowledgements(FakeClock())
    made.want(EVERY_NODE, Delta((A1,)))
    made.expect(("n1", "n2"))
    for node in ("n1", "n2"):
        report(made, node, A1)
    return made


def test_nodes_are_counted(acks: Acknowledgements) -> None:
    assert told(acks) == ("Acked", "in force on 2 of 2 nodes")
    acks.want(EVERY_NODE, Delta((A2,)))
    assert told(acks) == ("Pending", "in force on 0 of 2 nodes; not yet on n1, n2")
    report(acks, "n2", A2, full=False)
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n1")
    report(acks, "n1", A2, full=False)
    assert told(acks) == ("Acked", "in force on 2 of 2 nodes")


def test_a_node_has_an_object_when_it_has_all_of_it(acks: Acknowledgements) -> None:
    more = resource("b")
    acks.want(EVERY_NODE, Delta((more,)))
    report(acks, "n1", more, full=False)
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n2")


def test_what_a_node_refuses_is_told_in_its_words(acks: Acknowledgements) -> None:
    acks.want(EVERY_NODE, Delta((A2,)))
    report(acks, "n1", A1, full=False, refuses=A2)
    assert told(acks) == (
        "Rejected", "ScopedRouteConfiguration a: bad regex (so say 1 of 2 nodes)"
    )  # fmt: skip
    assert acks.refused_by_envoys == 1
    [state] = acks.states("n1", [A2])
    assert (state.acked, state.rejected) == (A1.version, "bad regex")
    acks.want(EVERY_NODE, Delta((A3,)))
    report(acks, "n1", A3, full=False)
    report(acks, "n2", A3, full=False)
    assert told(acks)[0] == "Acked"
    assert acks.refused_by_envoys == 0


def test_a_node_may_report_before_this_controller_knows_the_version(
    acks: Acknowledgements,
) -> None:
    new = resource("b", b"1", OTHER)
    report(acks, "n1", A2, new, full=False)
    report(acks, "n2", A2, new, full=False)
    assert told(acks)[0] == "Pending"
    acks.want(EVERY_NODE, Delta((A2, new)))
    assert told(acks)[0] == told(acks, OTHER)[0] == "Acked"


def test_a_version_that_came_and_went_here_alone_is_no_matter(acks: Acknowledgements) -> None:
    acks.want(EVERY_NODE, Delta((A2,)))
    acks.want(EVERY_NODE, Delta((A1,)))
    assert told(acks)[0] == "Acked"
    acks.want(EVERY_NODE, Delta((), (A1.key,)))
    assert acks.acked(ROUTE) is None
    acks.want(EVERY_NODE, Delta((A1,)))
    assert told(acks)[0] == "Acked"
    acks.want(EVERY_NODE, Delta((), (A1.key,)))
    report(acks, "n1", full=False, gone=A1)
    acks.want(EVERY_NODE, Delta((A1,)))
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n1")


def test_a_node_that_is_away_has_said_its_last_word(acks: Acknowledgements) -> None:
    acks.on_silence("n2")
    assert told(acks)[0] == "Acked"
    assert acks.reporting == {"n1": True, "n2": False}
    acks.want(EVERY_NODE, Delta((A2,)))
    report(acks, "n1", A2, full=False)
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n2 (not connected)")
    report(acks, "n2", A2)
    assert told(acks)[0] == "Acked"


def test_a_node_that_never_reported_has_nothing(acks: Acknowledgements) -> None:
    acks.expect(("n1", "n2", "n3"))
    assert told(acks) == ("Pending", "in force on 2 of 3 nodes; not yet on n3 (not connected)")


def test_a_node_of_which_the_object_is_gone_is_forgotten(acks: Acknowledgements) -> None:
    acks.want(EVERY_NODE, Delta((A2,)))
    report(acks, "n1", A2, full=False)
    acks.expect(("n1",))
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n2")
    acks.on_silence("n2")
    assert told(acks) == ("Acked", "in force on 1 of 1 nodes")
    assert acks.reporting == {"n1": True}


def test_of_two_streams_of_a_node_the_end_of_one_is_not_its_end(acks: Acknowledgements) -> None:
    report(acks, "n2", A1)
    acks.on_silence("n2")
    assert acks.reporting["n2"]
    acks.on_silence("n2")
    assert not acks.reporting["n2"]


def test_without_node_objects_nodes_are_those_that_report() -> None:
    acks = Acknowledgements(FakeClock())
    acks.want(EVERY_NODE, Delta((A1,)))
    assert acks.acked(ROUTE) is None
    report(acks, "lab", A1)
    acks.on_silence("lab")
    assert told(acks) == ("Acked", "in force on 1 of 1 nodes")


def test_what_one_node_gets_counts_there_only(acks: Acknowledgements) -> None:
    own = make_resource(types.LISTENER, "gw", b"1", [Origin(OTHER, "spec")])
    acks.want("n1", Delta((own,)))
    assert told(acks, OTHER) == ("Pending", "in force on 0 of 1 nodes; not yet on n1")
    report(acks, "n1", own, full=False)
    assert told(acks, OTHER) == ("Acked", "in force on 1 of 1 nodes")
    acks.want("n1", Delta((), (own.key,)))
    acks.want("n2", Delta((own,)))
    assert told(acks, OTHER) == ("Pending", "in force on 0 of 1 nodes; not yet on n2")
    acks.want("stranger", Delta((own,)))
    assert told(acks, OTHER)[1].startswith("in force on 0 of 1 nodes")


def test_a_full_report_replaces_what_was_said(acks: Acknowledgements) -> None:
    report(acks, "n1")
    assert told(acks) == ("Pending", "in force on 1 of 2 nodes; not yet on n1")


def test_only_objects_that_may_have_changed_are_named(acks: Acknowledgements) -> None:
    other = resource("b", b"1", OTHER)
    acks.want(EVERY_NODE, Delta((other,)))
    assert acks.changed() == {ROUTE, OTHER}
    assert acks.changed() == set()
    report(acks, "n1", other, full=False)
    assert acks.changed() == {OTHER}
    acks.want(EVERY_NODE, Delta((resource("b", b"2", ROUTE),)))
    assert acks.changed() == {ROUTE, OTHER}
    acks.expect(("n1", "n2", "n3"))
    assert acks.changed() == {ROUTE}


def test_agreement_costs_no_memory(acks: Acknowledgements) -> None:
    for turn in range(20):
        new = resource("a", b"turn %d" % turn)
        acks.want(EVERY_NODE, Delta((new,)))
        assert acks.outstanding == 2
        for node in ("n1", "n2"):
            report(acks, node, new, full=False)
        assert acks.outstanding == 0


def since(acks: Acknowledgements) -> float:
    found = acks.verdict(ROUTE)
    assert found is not None
    return found.since


def test_how_long_a_node_is_behind_counts_from_when_it_was_not() -> None:
    clock = FakeClock()
    acks = Acknowledgements(clock)
    acks.want(EVERY_NODE, Delta((A1,)))
    for node in ("n1", "n2"):
        report(acks, node, A1)
    assert since(acks) == inf
    clock.advance(10)
    acks.want(EVERY_NODE, Delta((A2,)))
    clock.advance(10)
    report(acks, "n2", A2, full=False)
    assert since(acks) == 10
    acks.want(EVERY_NODE, Delta((A3,)))
    report(acks, "n1", A3, full=False)
    assert since(acks) == 20
    report(acks, "n2", A3, full=False)
    assert since(acks) == inf


def test_a_node_that_takes_one_version_after_the_other_comes_on() -> None:
    clock = FakeClock()
    acks = Acknowledgements(clock)
    versions = [resource("a", b"turn %d" % turn) for turn in range(100)]
    acks.want(EVERY_NODE, Delta((versions[0],)))
    report(acks, "n1", versions[0])
    for had, wanted in pairwise(versions):
        acks.want(EVERY_NODE, Delta((wanted,)))
        clock.advance(1)
        assert since(acks) >= clock.monotonic() - 2
        report(acks, "n1", had, full=False)  # always one behind


def test_a_node_that_says_again_what_it_has_or_starts_anew_has_not_come_on() -> None:
    clock = FakeClock()
    acks = Acknowledgements(clock)
    acks.want(EVERY_NODE, Delta((A1,)))
    report(acks, "n1", A1)
    acks.want(EVERY_NODE, Delta((A2,)))
    assert since(acks) == 0
    clock.advance(10)
    report(acks, "n1", A1)
    report(acks, "n1")
    assert since(acks) == 0


def test_a_node_that_says_nothing_is_behind_since_it_counts() -> None:
    clock = FakeClock()
    acks = Acknowledgements(clock)
    acks.want(EVERY_NODE, Delta((A1,)))
    clock.advance(5)
    acks.expect(("n1",))
    clock.advance(5)
    acks.expect(("n1", "n2"))
    assert since(acks) == 5
    report(acks, "n1", A1)
    assert since(acks) == 10


def test_a_node_that_says_all_again_changes_only_what_it_has_otherwise(
    acks: Acknowledgements,
) -> None:
    other = resource("b", b"1", OTHER)
    acks.want(EVERY_NODE, Delta((A1, other)))
    report(acks, "n1", A1, other)
    assert acks.changed() == {ROUTE, OTHER}
    report(acks, "n1", A1, other)
    assert acks.changed() == set()
    report(acks, "n1", A1)
    assert acks.changed() == {OTHER}
    report(acks, "n1", A1, other)
    assert acks.changed() == {OTHER}
    report(acks, "n3", A1, other)
    assert acks.changed() == {ROUTE, OTHER}
