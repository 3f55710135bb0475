"""What nodes have, beside what they should have, and what that means for the user's objects.

Theory of operation. Nearly always every node has what it should, so only what differs is kept: for
each resource, the nodes that said something else than the version that is wanted of them. A change
of what is wanted costs one entry for each node that it is for, which goes when the node reports;
an object is summed up from the few entries of the resources that come from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import msgspec

from penstock.compiler.nodes import EVERY_NODE
from penstock.controlplane.wanted import Wanted
from penstock.controlplane.words import NOTHING, Said, Word
from penstock.envoy.listener import GATEWAY_PREFIX
from penstock.meta.names import ObjectRef
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta


class Refusal(msgspec.Struct, frozen=True, order=True):
    """A node that refuses what it should have."""

    key: ResourceName
    node: str
    detail: str


class Behind(msgspec.Struct, frozen=True):
    """A node's last word on a resource of which it should have another version."""

    said: Said
    since: float
    """Monotonic seconds: since when a version is wanted that it has not taken, nor a newer one; of
    one that lost what it had, since it did."""
    never: bool = False
    """Whether it has taken none since it is known."""


class Tally(msgspec.Struct, frozen=True):
    """How far one object has come."""

    nodes: int
    """How many nodes it is for."""
    without: tuple[str, ...]
    """Those that do not have all that comes from it, sorted."""
    refusals: tuple[Refusal, ...]
    """Those among them that refuse a part of it, sorted."""
    since: float
    """Monotonic seconds since when one of them has not come on; infinite if all have all."""
    never: bool
    """Whether one of them has never had some part of it."""
    ports: tuple[Refusal, ...] = ()
    """Refusals of listeners that are one port of a Gateway, sorted; they count nowhere above."""


LONGEST_PAST = 64
"""Versions that are remembered of a resource of which some node has another one than it should."""
UNREAD = 256
"""Changes that are taken before somebody must look at them."""
_NEVER = float("inf")
_NOBODY: Mapping[str, Behind] = {}


class Ledger:
    """The versions at all nodes."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Want nothing of nobody; *monotonic* tells the time in seconds."""
        self._monotonic = monotonic
        self._wanted = Wanted()
        self._differs: dict[ResourceName, dict[str, Behind]] = {}
        """Last words of nodes that are something else than what is wanted of them."""
        self._past: dict[ResourceName, dict[str, float]] = {}
        """Versions that were wanted, the latest last, and since when, while any node is behind."""
        self._places: dict[ObjectRef, dict[tuple[ResourceName, str], None]] = {}
        """Resources that come from an object, and for which node."""
        self._unread: list[tuple[str, Delta, float]] = []
        """What was taken, when, and not looked at."""
        self._heard: set[str] = set()
        self._expected: dict[str, float] = {}
        """Nodes that count whether they report or not, and since when."""
        self._touched: set[ResourceName] = set()
        self._changed: set[ObjectRef] = set()
        self._all_changed = False
        self.revision = 0
        """Changes with whatever is wanted or said."""

    @property
    def nodes(self) -> frozenset[str]:
        """Return all nodes that count."""
        return frozenset(self._heard).union(self._expected)

    def expect(self, nodes: frozenset[str]) -> None:
        """Count *nodes*, whether they report or not."""
        self.revision += 1
        now = self._monotonic()
        self._expected = {node: self._expected.get(node, now) for node in nodes}
        self._all_changed = True

    def want(self, node: str, delta: Delta) -> None:
        """Take a change of what *node* should have, EVERY_NODE for all.

        It is looked at when somebody asks: nodes are told what they should have first.
        """
        self.revision += 1
        self._unread.append((node, delta, self._monotonic()))
        if len(self._unread) > UNREAD:
            self._read()

    def _read(self) -> None:
        """Look at what was taken."""
        unread, self._unread = self._unread, []
        for node, delta, since in unread:
            for resource in delta.upserts:
                self._replace(node, resource.key, resource, since)
            for key in delta.removals:
                self._replace(node, key, None, since)

    def take_all(self, node: str, word: Word) -> None:
        """Take a node's word on everything."""
        self.revision += 1
        self._read()
        is_new = node not in self._heard
        if is_new:
            self._heard.add(node)
            self._all_changed = True  # one more has what each object comes to
        found = self._wanted.otherwise(node, word.in_force)
        odd = {key: Said(has) if has else NOTHING for key, has in found.items()}
        odd.update(word.others)
        agreed = [key for key, differs in self._differs.items() if node in differs]
        for key in agreed:
            if key not in odd:
                self._drop(key, node)
        for key, one in odd.items():
            self._note(node, key, one, is_new=is_new)
        self._touched.update(agreed, odd)

    def take(self, node: str, word: Word) -> None:
        """Take a node's word on some resources; it has said everything before."""
        self.revision += 1
        self._read()
        for key, one in word.each():
            self._note(node, key, one)
            self._touched.add(key)

    def forget(self, node: str) -> None:
        """Take that there is no such node any more."""
        self.revision += 1
        self._read()
        self._heard.discard(node)
        for key in [key for key, differs in self._differs.items() if node in differs]:
            self._drop(key, node)
        self._all_changed = True

    def said(self, node: str, resource: Resource) -> Said:
        """Return the last word of a node on a resource that it should have."""
        self._read()
        if node not in self._heard:
            return NOTHING
        behind = self._differs.get(resource.key, _NOBODY).get(node)
        if behind is not None:
            return behind.said
        return Said(self._wanted.version(node, resource.key))

    def refused(self) -> int:
        """Return how many resources are refused, counted at each node."""
        self._read()
        every = (one for differs in self._differs.values() for one in differs.values())
        return sum(bool(one.said.rejected) for one in every)

    def outstanding(self) -> int:
        """Return how many resources are not as they should be, counted at each node."""
        self._read()
        return sum(map(len, self._differs.values()))

    def changed(self) -> set[ObjectRef]:
        """Return the objects whose tallies may have changed since the last call."""
        self._read()
        changed, self._changed = self._changed, set()
        touched, self._touched = self._touched, set()
        if self._all_changed:
            self._all_changed = False
            return changed | self._places.keys()
        for key in touched:
            for resource in self._wanted.each(key):
                changed.update(origin.object for origin in resource.origins)
        return changed

    def tally(self, ref: ObjectRef) -> Tally | None:
        """Return how far an object has come; None if no node gets anything because of it."""
        self._read()
        concerned: set[str] = set()
        without: set[str] = set()
        refusals: set[Refusal] = set()
        ports: set[Refusal] = set()
        every, since, never = self.nodes, _NEVER, False
        for key, place in self._places.get(ref, ()):
            if len(concerned) < len(every):
                concerned |= every if place == EVERY_NODE else {place} & every
            for node, behind, version in self._differing(key, place):
                refused = behind.said.rejected == version
                if refused and _is_port(key):
                    ports.add(Refusal(key, node, behind.said.detail))
                    continue
                without.add(node)
                since = min(since, behind.since)
                never |= behind.never
                if refused:
                    refusals.add(Refusal(key, node, behind.said.detail))
        if not concerned:
            return None
        unheard = concerned - self._heard
        since = min((since, *(self._expected[node] for node in unheard)))
        return Tally(
            len(concerned),
            tuple(sorted(without | unheard)),
            tuple(sorted(refusals)),
            since,
            never or bool(unheard),
            tuple(sorted(ports)),
        )

    def _differing(self, key: ResourceName, place: str) -> Iterator[tuple[str, Behind, str]]:
        """Yield the nodes that do not have a resource, and the version that they should have."""
        differs = self._differs.get(key)
        if not differs:
            return
        for node in differs if place == EVERY_NODE else {place} & differs.keys():
            version = self._wanted.version(node, key)
            if differs[node].said.version != version:
                yield node, differs[node], version

    def _replace(self, node: str, key: ResourceName, new: Resource | None, since: float) -> None:
        before = self._wanted.version(node, key)
        old = self._wanted.put(node, key, new)
        after = self._wanted.version(node, key)
        if before != after:
            self._shift(node, key, Behind(Said(before), since), Said(after))
        self._name(old, new, node)

    def _shift(self, node: str, key: ResourceName, had: Behind, agreed: Said) -> None:
        """Keep the last words of nodes of which another version is wanted now.

        Args:
            node: of which it is wanted, EVERY_NODE for all others.
            key: of the resource.
            had: what a node that had what was wanted before is now.
            agreed: the word of one that has the other version.
        """
        if node == EVERY_NODE:
            nodes = self._heard - self._wanted.apart(key)
        else:
            nodes = {node} & self._heard
        differs = self._differs.setdefault(key, {})
        if not differs:
            differs.update(dict.fromkeys(nodes, had))
        else:
            for one in nodes:
                said = differs.get(one, had).said
                if said == agreed:
                    differs.pop(one, None)
                elif said.version == had.said.version:
                    differs[one] = Behind(said, had.since)
        if not differs:
            self._agree(key)
            return
        past = self._past.setdefault(key, {had.said.version: -_NEVER})
        past.pop(agreed.version, None)
        past[agreed.version] = had.since
        if len(past) > LONGEST_PAST:
            del past[next(iter(past))]

    def _agree(self, key: ResourceName) -> None:
        """Take that all nodes have what they should."""
        del self._differs[key]
        self._past.pop(key, None)

    def _name(self, old: Resource | None, new: Resource | None, node: str) -> None:
        """Note which objects a resource comes from now."""
        before = set() if old is None else {origin.object for origin in old.origins}
        after = set() if new is None else {origin.object for origin in new.origins}
        resource = new or old
        if resource is None:
            return
        place = (resource.key, node)
        for ref in before - after:
            self._places[ref].pop(place, None)
            if not self._places[ref]:
                del self._places[ref]
        for ref in after - before:
            self._places.setdefault(ref, {})[place] = None
        self._changed |= before | after

    def _note(self, node: str, key: ResourceName, said: Said, *, is_new: bool = False) -> None:
        if said.version == self._wanted.version(node, key) and not said.rejected:
            self._drop(key, node)
            return
        differs = self._differs.setdefault(key, {})
        before, since = differs.get(node), self._next_wanted(key, said.version)
        if before is not None and since is not None:
            differs[node] = Behind(said, max(since, before.since))
        elif before is not None:
            differs[node] = Behind(said, before.since, before.never)
        elif is_new and since is not None:
            differs[node] = Behind(said, since)
        else:
            differs[node] = Behind(said, self._monotonic(), never=is_new)

    def _next_wanted(self, key: ResourceName, version: str) -> float | None:
        """Return since when the one after *version* is wanted; None if that is not known."""
        past = self._past.get(key, {}).items()
        found = (since for (one, _), (_, since) in pairwise(past) if one == version)
        return next(found, None) if version else None

    def _drop(self, key: ResourceName, node: str) -> None:
        differs = self._differs.get(key)
        if differs is not None and differs.pop(node, None) is not None and not differs:
            self._agree(key)


def _is_port(key: ResourceName) -> bool:
    """Return whether a resource is the listener of one port of a Gateway."""
    return key.type_url == types.LISTENER and key.name.startswith(GATEWAY_PREFIX)
