"""What the data plane says of resources, summed up for the objects that they come from.

Every agent reports to every controller, whichever it gets its resources from: what of Envoy's types
its Envoy said, and what of our own is in the kernel. An agent that is away has said its last word
until it comes back or its Node is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from penstock.compiler.acked import Acked, rejected
from penstock.controlplane.ledger import Ledger, Refusal, Tally
from penstock.controlplane.words import read_word
from penstock.meta.clock import Clock
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.status.data_plane import DATA_PLANE_ACKED
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource
from penstock.xds.snapshot import Delta

NAMED = 3
"""Nodes that a message names."""


class ResourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One resource at one node."""

    resource: Resource
    acked: str | None
    """Version that the node runs; None if none."""
    rejected: str | None
    """Why it refused the current version, in its words."""


class Verdict(msgspec.Struct, frozen=True):
    """What all nodes say of an object."""

    acked: Acked
    since: float
    """Monotonic seconds since when some node has not come on; infinite if all have all of it.

    Single ports that are refused count neither here nor below.
    """
    follows: Condition | None = None
    """That it is in force, if all nodes have it as it was before *since*."""


class Acknowledgements:
    """Verdicts of all nodes; also the hooks of the ADS server."""

    def __init__(self, clock: Clock, on_gone: Callable[[str], None] = lambda _: None) -> None:
        """Know of no node.

        Args:
            clock: tells how long nodes have been behind.
            on_gone: told of each node that is forgotten.
        """
        self._on_gone = on_gone
        self._ledger = Ledger(clock.monotonic)
        self._streams: dict[str, DeltaStream | None] = {}
        self._reporting: Counter[str] = Counter()
        """How many streams of reports a node has; 0 for one that is away."""
        self._expected: frozenset[str] = frozenset()
        self.acks = 0
        """Responses that agents took."""
        self.nacks = 0
        """Resources that agents refused."""

    @property
    def connected(self) -> dict[str, bool]:
        """Return node → whether its agent gets its resources from here."""
        known = sorted(self._streams.keys() | self._ledger.nodes)
        return {name: self._streams.get(name) is not None for name in known}

    @property
    def reporting(self) -> dict[str, bool]:
        """Return node → whether its agent reports."""
        return {name: self._reporting[name] > 0 for name in sorted(self._ledger.nodes)}

    @property
    def refused_by_envoys(self) -> int:
        """Return the number of resources that an Envoy refuses now."""
        return self._ledger.refused()

    @property
    def revision(self) -> int:
        """Return a number that changes with whatever nodes should have or say."""
        return self._ledger.revision

    @property
    def outstanding(self) -> int:
        """Return the number of resources that are not in force as they should be."""
        return self._ledger.outstanding()

    def expect(self, nodes: Collection[str]) -> None:
        """Count *nodes*, those that run our Envoy and are Ready, whether they report or not."""
        expected = frozenset(nodes)
        if self._expected != expected:
            gone, self._expected = self._expected - expected, expected
            self._ledger.expect(expected)
            for node in (*gone, *self._reporting):
                self._forget_gone(node)

    def want(self, node: str, delta: Delta) -> None:
        """Take a change of what a node should have, EVERY_NODE for all."""
        self._ledger.want(node, delta)

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Remember the stream of an agent."""
        self._streams[node] = stream

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """Forget the stream of an agent; what it has said stays."""
        if self._streams.get(node) is stream:
            self._streams[node] = None
            self._forget_gone(node)

    def on_ack(self, node: str, accepted: object) -> None:  # noqa: ARG002  # the ADS server's signature
        """Count it: whether it is in force is in the reports."""
        self.acks += 1

    def on_reject(self, node: str, rejection: object) -> None:  # noqa: ARG002  # the ADS server's signature
        """Count it, as in on_ack."""
        self.nacks += 1

    def on_clear(self, node: str, cleared: object) -> None:
        """Pass over it, as in on_ack."""

    def on_report(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - signature of the ADS server
        """Take what an agent says; the first report of a stream is *full*."""
        word = read_word(report)
        if full:
            self._reporting[node] += 1
            self._ledger.take_all(node, word)
        else:
            self._ledger.take(node, word)

    def on_silence(self, node: str) -> None:
        """Take that a stream of reports has ended; what was said stays."""
        self._reporting[node] = max(0, self._reporting[node] - 1)
        self._forget_gone(node)

    def states(self, node: str, resources: Iterable[Resource]) -> list[ResourceState]:
        """Return the state of *resources* at *node*."""
        return [self._state(node, resource) for resource in resources]

    def changed(self) -> set[ObjectRef]:
        """Return the objects of which nodes may say something else than at the last call."""
        return self._ledger.changed()

    def acked(self, ref: ObjectRef) -> Acked | None:
        """Return what nodes say of an object; None if no node gets anything of it."""
        found = self.verdict(ref)
        return None if found is None else found.acked

    def verdict(self, ref: ObjectRef) -> Verdict | None:
        """Return the same, and since when."""
        tally = self._ledger.tally(ref)
        if tally is None:
            return None
        follows = None if tally.never or tally.refusals else _acked(tally.nodes)
        ports: dict[str, list[Refusal]] = {}
        for one in tally.ports:
            ports.setdefault(one.key.name, []).append(one)
        words = {name: _words(refusals, tally.nodes) for name, refusals in ports.items()}
        return Verdict(Acked(self._summary(tally), words), tally.since, follows)

    def _summary(self, tally: Tally) -> Condition:
        if tally.refusals:
            return rejected(_words(tally.refusals, tally.nodes))
        if not tally.without:
            return _acked(tally.nodes)
        have = tally.nodes - len(tally.without)
        named = ", ".join(map(self._named, tally.without[:NAMED]))
        more = ", …" if len(tally.without) > NAMED else ""
        text = f"in force on {have} of {tally.nodes} nodes; not yet on {named}{more}"
        return Condition(type=DATA_PLANE_ACKED, status=None, reason="Pending", message=text)

    def _named(self, node: str) -> str:
        return node if self._reporting[node] else f"{node} (not connected)"

    def _state(self, node: str, resource: Resource) -> ResourceState:
        said = self._ledger.said(node, resource)
        refused = said.detail if said.rejected == resource.version else None
        return ResourceState(resource=resource, acked=said.version or None, rejected=refused)

    def _forget_gone(self, node: str) -> None:
        """Forget a node that is away and that the cluster does not have; if it says what it has."""
        away = not self._reporting[node] and self._streams.get(node) is None
        if away and self._expected and node not in self._expected:
            self._reporting.pop(node, None)
            self._streams.pop(node, None)
            self._ledger.forget(node)
            self._on_gone(node)


def _words(refusals: Sequence[Refusal], nodes: int) -> str:
    """Return what the first of *refusals* says, and how many of all nodes refuse something."""
    first = refusals[0]
    text = f"{types.short(first.key.type_url)} {first.key.name}: {first.detail}"
    if nodes == 1:
        return text
    return f"{text} (so say {len({one.node for one in refusals})} of {nodes} nodes)"


def _acked(nodes: int) -> Condition:
    text = f"in force on {nodes} of {nodes} nodes"
    return Condition(type=DATA_PLANE_ACKED, status=True, reason="Acked", message=text)
