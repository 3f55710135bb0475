"""What a node should have: one version of each resource, changed in place.

A Snapshot is owned by whoever fills it and read by the streams of all clients that it is for, on
one thread. A change costs what it changes: `apply` says which entries it really changed, and that
is what streams are told; how many others there are does not matter.

Snapshots of many clients share what all of them have: each holds what is its own and lies *over* a
base, whose entries it shows unless it has one of that name itself. A change of the base is made
once; `seen` says which part of it a snapshot over it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from types import MappingProxyType

import msgspec

from penstock.meta.problems import Problem, Severity
from penstock.xds import types
from penstock.xds.checkpoint import Checkpoint
from penstock.xds.resource import Resource, ResourceName

RENEWED_AFTER = 8
"""A checkpoint is renewed when an eighth of it has changed."""
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

    def __init__(self, resources: Iterable[Resource] = (), *, over: Snapshot | None = None) -> None:
        """Hold *resources*; of two with one name, the later. Show the rest of *over* as well."""
        self._types: dict[str, dict[str, Resource]] = {}
        self._base = over
        self._points: dict[str, Checkpoint] = {}
        self._since: dict[str, set[str]] = {}
        """Names of each type that changed since its checkpoint."""
        self.apply(Delta(tuple(resources)))

    def __iter__(self) -> Iterator[Resource]:
        """Yield all resources in sending order."""
        for type_url in _in_order(self.type_urls()):
            yield from self.of_type(type_url).values()

    def __len__(self) -> int:
        """Return the number of resources."""
        return sum(len(self.of_type(type_url)) for type_url in self.type_urls())

    def get(self, type_url: str, name: str) -> Resource | None:
        """Return one resource, or None."""
        found = self._types.get(type_url, _NOTHING).get(name)
        if found is None and self._base is not None:
            return self._base.get(type_url, name)
        return found

    def of_type(self, type_url: str) -> Mapping[str, Resource]:
        """Return the resources of a type by name, as a live view."""
        if self._base is not None:
            return _Layers(self, self._base, type_url)
        return MappingProxyType(self._types.get(type_url, {}))

    def checkpoint(self, type_url: str) -> tuple[Checkpoint, AbstractSet[str]]:
        """Return a checkpoint of a type, shared by all snapshots of one base.

        Also the names that may be otherwise here: those of our own, and those that changed since.
        """
        if self._base is not None:
            below, changed = self._base.checkpoint(type_url)
            return below, changed | self.own(type_url).keys()
        known, since = self._points.get(type_url), self._since.setdefault(type_url, set())
        if known is not None and len(since) * RENEWED_AFTER <= len(known.versions) + RENEWED_AFTER:
            return known, since
        since.clear()
        point = self._points[type_url] = Checkpoint(self.own(type_url))
        return point, since

    def type_urls(self) -> set[str]:
        """Return the types that there may be resources of."""
        own = set(self._types)
        return own if self._base is None else own | self._base.type_urls()

    def own(self, type_url: str) -> Mapping[str, Resource]:
        """Return the resources of a type that are not of the base, by name."""
        return self._types.get(type_url, _NOTHING)

    @property
    def has_own(self) -> bool:
        """Return whether there is any resource that is not of the base."""
        return any(self._types.values())

    def apply(self, delta: Delta) -> Delta:
        """Change what is not of the base; return what is shown otherwise than before.

        That is the part of *delta* that changed anything; but where a removed resource hid one of
        the base, that one shows again.
        """
        removed = [n for n in delta.removals if self._remove(n)]
        added = [r for r in delta.upserts if self._put(r)]
        if self._base is None:
            return Delta(tuple(added), tuple(removed))
        below = [self._base.get(name.type_url, name.name) for name in removed]
        gone = (name for name, again in zip(removed, below, strict=True) if again is None)
        return Delta((*filter(None, below), *added), tuple(gone))

    def seen(self, change: Delta) -> Delta:
        """Return the part of *change*, which the base has undergone, that is not hidden here."""
        upserts = tuple(r for r in change.upserts if r.name not in self.own(r.type_url))
        removals = tuple(n for n in change.removals if n.name not in self.own(n.type_url))
        if len(upserts) == len(change.upserts) and len(removals) == len(change.removals):
            return change
        return Delta(upserts, removals)

    def difference(self, resources: Iterable[Resource]) -> Delta:
        """Return the change that makes the snapshot hold exactly *resources*, besides the base."""
        wanted = {resource.key: resource for resource in resources}
        held = chain.from_iterable(self.own(url).values() for url in _in_order(self._types))
        removals = tuple(r.key for r in held if r.key not in wanted)
        upserts = tuple(
            r for r in wanted.values()
            if (old := self.own(r.type_url).get(r.name)) is None or old.version != r.version
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
        self._note(resource.type_url, resource.name)
        return True

    def _remove(self, key: ResourceName) -> bool:
        self._note(key.type_url, key.name)
        return self._types.get(key.type_url, {}).pop(key.name, None) is not None

    def _note(self, type_url: str, name: str) -> None:
        """Note that a resource is not that of the checkpoint any more, if there is one."""
        changed = self._since.get(type_url)
        if changed is not None:
            changed.add(name)


class _Layers(Mapping[str, Resource]):
    """The resources of a type in a snapshot and its base, as a live view."""

    def __init__(self, top: Snapshot, base: Snapshot, type_url: str) -> None:
        self._top, self._base, self._type_url = top, base, type_url

    def __getitem__(self, name: str) -> Resource:
        found = self._top.get(self._type_url, name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        own = self._top.own(self._type_url)
        yield from (name for name in self._base.of_type(self._type_url) if name not in own)
        yield from own

    def __len__(self) -> int:
        below = self._base.of_type(self._type_url)
        own = self._top.own(self._type_url)
        return len(below) + sum(name not in below for name in own)


def _in_order(type_urls: Iterable[str]) -> list[str]:
    """Return types in sending order, unknown ones last."""
    found = set(type_urls)
    known = [url for url in types.SENDING_ORDER if url in found]
    return known + sorted(found.difference(known))
