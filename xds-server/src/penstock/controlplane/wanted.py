"""What nodes should have."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TypeVar

from penstock.compiler.nodes import EVERY_NODE
from penstock.xds.resource import Resource, ResourceName

K = TypeVar("K", bound=Hashable)

_NONE: Mapping[str, Resource] = {}


class Wanted:
    """The resources that all nodes should have, and those that single ones should."""

    def __init__(self) -> None:
        """Want nothing."""
        self._everywhere: dict[str, dict[str, Resource]] = {}
        """Type, then name, to what all have that get nothing else of that name."""
        self._at: dict[ResourceName, dict[str, Resource]] = {}
        """By the only node that gets it."""

    def put(self, node: str, key: ResourceName, new: Resource | None) -> Resource | None:
        """Want *new* of *node*, EVERY_NODE for all others; return what was wanted before."""
        if node == EVERY_NODE:
            return _put(self._everywhere, key.type_url, key.name, new)
        return _put(self._at, key, node, new)

    def version(self, node: str, key: ResourceName) -> str:
        """Return the version that *node* should have; "" for none."""
        found = self._at[key].get(node) if key in self._at else None
        if found is None:
            found = self._everywhere.get(key.type_url, _NONE).get(key.name)
        return "" if found is None else found.version

    def apart(self, key: ResourceName) -> frozenset[str]:
        """Return the nodes that get something of their own under a name."""
        return frozenset(self._at.get(key, ()))

    def holds(self, key: ResourceName) -> bool:
        """Tell whether some node should have something under a name."""
        return key in self._at or key.name in self._everywhere.get(key.type_url, _NONE)

    def each(self, key: ResourceName) -> Iterator[Resource]:
        """Yield what nodes should have under a name."""
        yield from self._at.get(key, _NONE).values()
        if (found := self._everywhere.get(key.type_url, _NONE).get(key.name)) is not None:
            yield found

    def otherwise(
        self, node: str, in_force: Mapping[str, Mapping[str, str]]
    ) -> dict[ResourceName, str]:
        """Return what *node* has otherwise than it should, "" where it has nothing.

        Nearly always that is little of very much: names are compared before anything is made of
        them.
        """
        found: dict[ResourceName, str] = {}
        for type_url in in_force.keys() | self._everywhere.keys():
            has = in_force.get(type_url, {})
            every = self._everywhere.get(type_url, _NONE)
            for name, version in has.items():
                one = every.get(name)
                if one is None or one.version != version:
                    found[ResourceName(type_url, name)] = version
            missing = (name for name in every if name not in has)
            found |= {ResourceName(type_url, name): "" for name in missing}
        for key, at in self._at.items():
            if node in at:
                found[key] = in_force.get(key.type_url, {}).get(key.name, "")
        return {key: has for key, has in found.items() if has != self.version(node, key)}


def _put(
    into: dict[K, dict[str, Resource]], key: K, name: str, new: Resource | None
) -> Resource | None:
    under = into.setdefault(key, {})
    old = under.pop(name, None)
    if new is not None:
        under[name] = new
    if not under:
        del into[key]
    return old
