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
        self._versions: dict[str, dict[str, str]] = {}
        """Their versions, of each type that there ever was."""
        self._at: dict[ResourceName, dict[str, Resource]] = {}
        """By the only node that gets it."""

    def put(self, node: str, key: ResourceName, new: Resource | None) -> Resource | None:
        """Want *new* of *node*, EVERY_NODE for all others; return what was wanted before."""
        if node == EVERY_NODE:
            versions = self._versions.setdefault(key.type_url, {})
            if new is None:
                versions.pop(key.name, None)
            else:
                versions[key.name] = new.version
            return _put(self._everywhere, key.type_url, key.name, new)
        return _put(self._at, key, node, new)

    def version(self, node: str, key: ResourceName) -> str:
        """Return the version that *node* should have; "" for none."""
        found = self._at[key].get(node) if key in self._at else None
        if found is not None:
            return found.version
        versions = self._versions.get(key.type_url)
        return "" if versions is None else versions.get(key.name, "")

    def apart(self, key: ResourceName) -> frozenset[str]:
        """Return the nodes that get something of their own under a name."""
        return frozenset(self._at.get(key, ()))

    def each(self, key: ResourceName) -> Iterator[Resource]:
        """Yield what nodes should have under a name."""
        yield from self._at.get(key, _NONE).values()
        if (found := self._everywhere.get(key.type_url, _NONE).get(key.name)) is not None:
            yield found

    def otherwise(
        self, node: str, in_force: Mapping[str, Mapping[str, str]]
    ) -> dict[ResourceName, str]:
        """Return what *node* has otherwise than it should, "" where it has nothing.

        Nearly always that is nothing of very much: whole types are compared at once.
        """
        found: dict[ResourceName, str] = {}
        for type_url in in_force.keys() | self._versions.keys():
            has, versions = in_force.get(type_url, {}), self._versions.get(type_url, {})
            if has == versions:
                continue
            found.update(
                (ResourceName(type_url, name), version)
                for name, version in has.items()
                if versions.get(name) != version
            )
            found.update((ResourceName(type_url, name), "") for name in versions if name not in has)
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
