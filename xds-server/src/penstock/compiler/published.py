"""Which resources nodes have, and what of that has changed since it was told last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

from penstock.compiler.nodes import EVERY_NODE
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta

_Place = tuple[str, str, str]
"""Of a resource: the node that has it, its type and its name."""


_EVERYWHERE: Mapping[str, int] = MappingProxyType({EVERY_NODE: 1})
"""What most are wanted by: there are tens of thousands of them."""


class NodeChange(msgspec.Struct, frozen=True):
    """A change of what one node gets, or all of them."""

    node: str
    """Name of the node; EVERY_NODE for all."""
    delta: Delta


class Made(msgspec.Struct, eq=False):
    """One resource that is made, and for whom: the same bytes for each of the nodes."""

    wanted: Mapping[str, int]
    """Node, or EVERY_NODE, → how many roots want it there."""
    resource: Resource | None = None
    """None if there is none at present."""

    def want(self, node: str) -> bool:
        """Count one more root that wants it at *node*; return whether it is the first one."""
        if not isinstance(self.wanted, dict):
            self.wanted = dict(self.wanted)
        before = self.wanted.get(node, 0)
        self.wanted[node] = before + 1
        return not before

    def unwant(self, node: str) -> bool:
        """Count one root less; return whether it was the last one."""
        if not isinstance(self.wanted, dict):
            self.wanted = dict(self.wanted)
        self.wanted[node] -= 1
        if self.wanted[node]:
            return False
        del self.wanted[node]
        return True


def made_for(node: str) -> Made:
    """Return what is new, and is wanted by one root at *node*."""
    return Made(_EVERYWHERE if node == EVERY_NODE else {node: 1})


class Published:
    """The resources of all nodes by their places; a place is of whoever took it last."""

    def __init__(self) -> None:
        """Start with no resource at any node."""
        self._owners: dict[_Place, Made] = {}
        self._changes: dict[_Place, Resource | None] = {}
        self._untold: set[_Place] = set()
        """Those of the changes that are new, so that nobody has to be told that they are gone."""
        self._lent: dict[_Place, Made] = {}
        """What was there before it was made."""
        self._lent_to_nodes: dict[ResourceName, Resource] = {}
        """Of that, what single nodes have: the same for several, as a rule."""

    def replace(self, made: Made, resource: Resource | None) -> Resource | None:
        """Give every node that *made* is for another version of it, None for none.

        Returns:
            *resource*, or what nodes have already if that is equal.
        """
        if self._lent and resource is not None:
            resource = self._known(made, resource)
        old, made.resource = made.resource, resource
        for node in made.wanted:
            self._put(node, made, old, resource)
        return resource

    def lend(self, node: str, resource: Resource) -> None:
        """Give a node what will be made later, unless it has it."""
        place = (node, resource.type_url, resource.name)
        if place not in self._owners:
            if node != EVERY_NODE:
                resource = self._lent_to_nodes.setdefault(resource.key, resource).or_equal(resource)
            self._lent[place] = made = made_for(node)
            self.replace(made, resource)

    def end_loans(self) -> None:
        """Take from nodes what was lent and was not made since."""
        lent, self._lent = self._lent, {}
        self._lent_to_nodes.clear()
        for place, made in lent.items():
            if self._owners.get(place) is made:
                self._vacate(place)

    def add(self, made: Made, node: str) -> None:
        """Give *made* as it is to one more node."""
        self._put(node, made, None, made.resource)

    def withdraw(self, made: Made, node: str) -> None:
        """Take *made* from a node."""
        self._put(node, made, made.resource, None)

    def of_node(self, node: str) -> Iterator[Resource]:
        """Yield what a node has."""
        for place, made in self._owners.items():
            if place[0] in (EVERY_NODE, node) and made.resource is not None:
                yield made.resource

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of the nodes that have resources of their own, sorted."""
        return tuple(sorted({node for node, _, _ in self._owners} - {EVERY_NODE}))

    def changes(self) -> tuple[NodeChange, ...]:
        """Return what has changed since the last call, sorted by node, type and name."""
        changes, self._changes = self._changes, {}
        self._untold.clear()
        upserts: dict[str, list[Resource]] = {}
        removals: dict[str, list[ResourceName]] = {}
        for place in sorted(changes):
            node, type_url, name = place
            resource = changes[place]
            if resource is None:
                removals.setdefault(node, []).append(ResourceName(type_url, name))
            else:
                upserts.setdefault(node, []).append(resource)
        return tuple(
            NodeChange(node, Delta(tuple(upserts.get(node, ())), tuple(removals.get(node, ()))))
            for node in sorted({*upserts, *removals})
        )

    def _known(self, made: Made, resource: Resource) -> Resource:
        """Return what nodes have been lent if it is equal to *resource*, else *resource*."""
        for node in made.wanted:
            lent = self._lent.get((node, resource.type_url, resource.name))
            if lent is not None and lent.resource is not None:
                return lent.resource.or_equal(resource)
        return resource

    def _put(self, node: str, made: Made, old: Resource | None, new: Resource | None) -> None:
        before = None if old is None else (node, old.type_url, old.name)
        place = None if new is None else (node, new.type_url, new.name)
        if before is not None and before != place and self._owners.get(before) is made:
            self._vacate(before)
        if new is None or place is None:
            return
        owner = self._owners.get(place)
        if owner is None and place not in self._changes:
            self._untold.add(place)
        elif old is not None and before == place and old.version == new.version:
            return
        elif owner is not None and owner.resource is new and owner is not made:
            self._owners[place] = made
            return
        self._owners[place] = made
        self._changes[place] = new

    def _vacate(self, place: _Place) -> None:
        del self._owners[place]
        if place in self._untold:
            self._untold.remove(place)
            del self._changes[place]
        else:
            self._changes[place] = None
