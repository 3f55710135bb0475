"""What a node should have: one version of each resource, changed in place.

A Snapshot is owned by whoever fills it and read by the streams of all clients that it is for, on
one thread. A change costs what it changes: `apply` says which entries it really changed, and that
is what streams are told; how many others there are does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from penstock.meta.problems import Problem, Severity
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName

_NOTHING: Mapping[str, Resource] = MappingProxyType({})


class Delta(msgspec.Struct, frozen=True):
    """Resources to add or replace, and resources to take away."""

    upserts: tuple[Resource, ...] = ()
    removals: tuple[ResourceName, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything in it."""
        return bool(self.upserts or self.removals)


class Snapshot:
    """Resources by type and name."""

    def __init__(self, resources: Iterable[Resource] = ()) -> None:
        """Hold *resources*; of two with one name, the later."""
        self._types: dict[str, dict[str, Resource]] = {}
        self.apply(Delta(tuple(resources)))

    def __iter__(self) -> Iterator[Resource]:
        """Yield all resources in sending order."""
        known = [t for t in types.SENDING_ORDER if t in self._types]
        for type_url in known + sorted(self._types.keys() - set(known)):
            yield from self._types[type_url].values()

    def __len__(self) -> int:
        """Return the number of resources."""
        return sum(map(len, self._types.values()))

    def get(self, type_url: str, name: str) -> Resource | None:
        """Return one resource, or None."""
        return self._types.get(type_url, _NOTHING).get(name)

    def of_type(self, type_url: str) -> Mapping[str, Resource]:
        """Return the resources of a type by name, as a live view."""
        return MappingProxyType(self._types.get(type_url, {}))

    def apply(self, delta: Delta) -> Delta:
        """Change the snapshot; return the part of *delta* that changed anything."""
        removed = tuple(n for n in delta.removals if self._remove(n))
        added = tuple(r for r in delta.upserts if self._put(r))
        return Delta(added, removed)

    def difference(self, resources: Iterable[Resource]) -> Delta:
        """Return the change that makes the snapshot hold exactly *resources*."""
        wanted = {resource.key: resource for resource in resources}
        removals = tuple(r.key for r in self if r.key not in wanted)
        upserts = tuple(
            r for r in wanted.values()
            if (old := self.get(r.type_url, r.name)) is None or old.version != r.version
        )  # fmt: skip
        return Delta(upserts, removals)

    def problems(self) -> tuple[Problem, ...]:
        """Return what cannot work: needs that are not in the snapshot."""
        return tuple(
            Problem(
                path=str(resource.key),
                message=f"needs {need}, which is not in the snapshot",
                hint="it is sent all the same; what refers to the missing one fails",
                severity=Severity.WARNING,
            )
            for resource in self
            for need in sorted(resource.needs)
            if self.get(need.type_url, need.name) is None
        )

    def _put(self, resource: Resource) -> bool:
        named = self._types.setdefault(resource.type_url, {})
        old = named.get(resource.name)
        if old is not None and old.version == resource.version:
            return False
        named[resource.name] = resource
        return True

    def _remove(self, key: ResourceName) -> bool:
        return self._types.get(key.type_url, {}).pop(key.name, None) is not None
