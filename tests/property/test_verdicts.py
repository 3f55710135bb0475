"""Whatever happens: what is told to be in force was so, as the object is written now."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.compiler.nodes import EVERY_NODE
from penstock.controlplane.acknowledgements import Acknowledgements
from penstock.controlplane.verdicts import PATIENCE, RECOUNT, Verdicts
from penstock.meta.names import ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta
from support.fake_clock import FakeClock

REF = ObjectRef("HTTPRoute", "shop", "r")
NODES: tuple[str, ...] = ("n1", "n2")
NAMES = ("a", "b")
PORT = make_resource(types.LISTENER, "gateway/shop/r/80", b"", [Origin(REF, "spec")])


def resource(name: str, turn: int) -> Resource:
    return make_resource(types.SCOPE, name, b"%d" % turn, [Origin(REF, "spec")])


class Site:
    """One object of some resources at some nodes, and what is told of it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.acks = Acknowledgements(self.clock)
        self.verdicts = Verdicts(self.clock)
        self.generation = 1
        self.wanted: dict[str, Resource] = {}
        self.written: dict[str, int] = {}
        self.has: dict[str, dict[str, Resource]] = {node: {} for node in NODES}
        self.turn = 0
        self.turns: dict[str, dict[str, int]] = {name: dict.fromkeys(NODES, 0) for name in NAMES}
        """The newest that each node ever had."""
        self.needed: dict[str, int] = {}
        """What there was when the object became as it is."""
        self.refusing: set[str] = set()
        """Nodes that refuse the port."""
        self.judged: set[str] = set()
        """Nodes that ever had the port, or refused it."""
        self.acks.expect(NODES)
        self.acks.want(EVERY_NODE, Delta((PORT,)))
        for name in NAMES:
            self.change(name)
        self.needed = dict(self.written)

    def change(self, name: str) -> None:
        self.turn += 1
        self.wanted[name], self.written[name] = resource(name, self.turn), self.turn
        self.acks.want(EVERY_NODE, Delta((self.wanted[name],)))

    def edit(self, name: str) -> None:
        self.generation += 1
        self.begin(name)

    def make_anew(self, name: str) -> None:
        self.verdicts.drop(REF)
        self.begin(name)

    def begin(self, name: str) -> None:
        self.change(name)
        self.needed = dict(self.written)
        self.look()

    def take(self, node: str, names: frozenset[str]) -> None:
        """Have a node take the newest of some resources."""
        for name in names:
            self.has[node][name] = self.wanted[name]
            self.turns[name][node] = self.written[name]

    def report(self, node: str, names: frozenset[str], *, full: bool) -> None:
        """Have a node say what it has."""
        said = node_pb2.NodeReport(node=node)
        for name in NAMES if full else sorted(names):
            one = self.has[node].get(name)
            if one is not None:
                said.resources.add(type_url=one.type_url, name=one.name, version=one.version)
        about = said.resources.add(type_url=PORT.type_url, name=PORT.name)
        if node in self.refusing:
            about.rejected_version, about.detail = PORT.version, "busy"
        else:
            about.version = PORT.version
        self.judged.add(node)
        self.acks.on_report(node, said, full)

    def take_everywhere(self) -> None:
        self.refusing.clear()
        for node in NODES:
            self.take(node, frozenset(NAMES))
            self.report(node, frozenset(NAMES), full=True)
        self.look()

    def restart(self, node: str) -> None:
        self.has[node].clear()
        self.acks.on_report(node, node_pb2.NodeReport(node=node), True)

    def take_over(self) -> None:
        self.verdicts.clear()
        self.verdicts.begin(REF, self.generation, self.acks.verdict(REF))

    def look(self) -> None:
        self.verdicts.due()
        self.verdicts.look(REF, self.generation, self.acks.verdict(REF))

    def check(self) -> None:
        told = self.verdicts.get(REF)
        if told is not None and told.others.status is True:
            assert self.judged == set(NODES)
            for name, turn in self.needed.items():
                assert min(self.turns[name].values()) >= turn


nodes, names = st.sampled_from(NODES), st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("change"), names),
    st.tuples(st.just("edit"), names),
    st.tuples(st.just("make anew"), names),
    st.tuples(st.just("restart"), nodes),
    st.tuples(st.just("take over")),
    st.tuples(st.just("refuse"), nodes),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 1.0, 1.0, PATIENCE])),
    *(3 * (st.tuples(st.just("take"), nodes, st.frozensets(names)),)),
    *(4 * (st.tuples(st.just("report"), nodes, st.frozensets(names), st.booleans()),)),
)


def do(site: Site, step: tuple[object, ...]) -> None:
    match step:
        case ("change", str(name)):
            site.change(name)
        case ("edit", str(name)):
            site.edit(name)
        case ("make anew", str(name)):
            site.make_anew(name)
        case ("restart", str(node)):
            site.restart(node)
        case ("refuse", str(node)):
            site.refusing ^= {node}
            site.report(node, frozenset(), full=False)
            site.look()
            known = site.acks.acked(REF)
            told = site.verdicts.get(REF)
            assert known is not None
            assert told is not None
            assert told.ports.keys() == known.ports.keys()
        case ("take over",):
            site.take_over()
        case ("pass", float(seconds)):
            site.clock.advance(seconds)
            site.look()
        case ("take", str(node), frozenset(some)):
            site.take(node, some)
        case ("report", str(node), frozenset(some), bool(full)):
            site.report(node, some, full=full)
        case _:
            raise AssertionError(step)


@given(st.lists(steps, max_size=40), st.booleans())
@settings(max_examples=300, deadline=None)
def test_nothing_is_told_that_was_never_so_and_in_the_end_the_truth_is(
    what: list[tuple[object, ...]],
    begun: bool,  # noqa: FBT001 - as hypothesis gives it
) -> None:
    site = Site()
    if begun:
        site.take_everywhere()
    for step in what:
        do(site, step)
        site.check()
    for _ in range(3):  # silence: nothing is on its way any more
        site.clock.advance(RECOUNT)
        site.look()
    assert site.verdicts.get(REF) == site.acks.acked(REF)
    site.take_everywhere()
    assert site.acks.outstanding == 0
    told = site.verdicts.get(REF)
    assert told is not None
    assert told.condition.status is True
