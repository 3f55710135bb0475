"""What many clients have, held once: the resources of a type as they were at some time.

Nearly all clients have nearly the same. So what one has is what it has otherwise than a checkpoint,
and a client that comes back is compared with a checkpoint by dictionaries as a whole, not name by
name.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping

import msgspec
from typing_extensions import override

from penstock.xds.name import ResourceName
from penstock.xds.resource import Resource

NO_NEEDS: frozenset[ResourceName] = frozenset()


class Checkpoint:
    """The resources of a type at some time; nobody changes it."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        """Keep *resources*, by name."""
        self.resources = dict(resources)
        self.versions = {name: one.version for name, one in resources.items()}

    @functools.cached_property
    def holders(self) -> Counter[ResourceName]:
        """Return how many of the resources need each resource."""
        return Counter(need for one in self.resources.values() for need in one.needs)

    def needs(self, name: str) -> frozenset[ResourceName]:
        """Return what a resource of the checkpoint needs."""
        found = self.resources.get(name)
        return NO_NEEDS if found is None else found.needs

    def compare(self, versions: Mapping[str, str]) -> Difference:
        """Return what is otherwise in *versions*."""
        known = self.versions
        if versions == known:
            return SAME
        other = {name: one for name, one in versions.items() if known.get(name) != one}
        return Difference(other, frozenset(known.keys() - versions.keys()))


NOTHING = Checkpoint({})
MANY = 256
"""Names that a client may have for itself before a checkpoint is looked for."""


class Difference(msgspec.Struct, frozen=True):
    """What somebody has otherwise than a checkpoint."""

    other: dict[str, str]
    """Name to version, of what it has in another version or more than the checkpoint."""
    missing: frozenset[str]
    """Names of the checkpoint that it does not have at all."""

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.other) + len(self.missing)


SAME = Difference({}, frozenset())


class Held(MutableMapping[str, str]):
    """Name to version of what a client has: a checkpoint and what is otherwise."""

    def __init__(self, many: int = MANY) -> None:
        """Have nothing; up to *many* names need not be looked for in a checkpoint."""
        self._many = many
        self.due = many
        """As many names of its own are too many: the next checkpoint may have them."""
        self._base = NOTHING.versions
        self._other: dict[str, str] = {}
        self._missing: set[str] = set()

    def rebase(self, point: Checkpoint, difference: Difference) -> None:
        """Have what *point* has, but for *difference*; the same as before, or all there is."""
        self._base = point.versions
        self._other, self._missing = dict(difference.other), set(difference.missing)
        self.due = max(self._many, 2 * self.own)

    @property
    def own(self) -> int:
        """Return the number of names that are not those of the checkpoint."""
        return len(self._other) + len(self._missing)

    @override
    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]  # of the two only this one is used
        found = self._other.get(key)
        if found is None and key not in self._missing:
            found = self._base.get(key)
        return default if found is None else found

    @override
    def pop(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]  # as above
        found = self.get(key, default)
        self._other.pop(key, None)
        if key in self._base:
            self._missing.add(key)
        return found

    @override
    def __contains__(self, key: object) -> bool:
        return key in self._other or (key in self._base and key not in self._missing)

    @override
    def __getitem__(self, key: str) -> str:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    @override
    def __setitem__(self, key: str, value: str) -> None:
        self._missing.discard(key)
        if self._base.get(key) == value:
            self._other.pop(key, None)
        else:
            self._other[key] = value

    @override
    def __delitem__(self, key: str) -> None:
        if self.pop(key) is None:
            raise KeyError(key)

    @override
    def __iter__(self) -> Iterator[str]:
        base, other, missing = self._base, self._other, self._missing
        yield from (name for name in base if name not in missing and name not in other)
        yield from other

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Return whether there is anything."""
        return bool(self._other) or len(self._base) > len(self._missing)
