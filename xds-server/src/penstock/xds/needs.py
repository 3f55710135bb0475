"""Which resources a client's other resources still need, so that none leaves too early.

A client may run any version that it was sent and has not refused, so the needs of the accepted
version and those of every version under way count, each once. Of a resource that a client brought
along from an earlier stream in a version that we do not know, the needs are not known either.

What a client has as a checkpoint has it is counted there, once for all clients; what is counted
here is the difference.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.xds.checkpoint import NO_NEEDS, NOTHING, Checkpoint, Difference
from penstock.xds.resource import ResourceName

Needs = frozenset[ResourceName]


class HeldNeeds:
    """Counts, for one client, how many holders each needed resource has."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._points: dict[str, Checkpoint] = {}
        """By type of the owners: what the client accepted, but for what is in `_accepted`."""
        self._holders: dict[ResourceName, int] = {}
        """Beside, or less than, the holders in the checkpoints."""
        self._accepted: dict[ResourceName, Needs] = {}
        self._doubtful: dict[ResourceName, dict[str, Needs]] = {}
        self._unknown: dict[str, set[str]] = {}

    def __contains__(self, name: ResourceName) -> bool:
        """Return whether the client has, or may have, something that needs *name*."""
        return self._count(name) > 0

    def rebase(self, type_url: str, point: Checkpoint, difference: Difference) -> None:
        """Take that the client has *point*, but for *difference*; what is held of that stays."""
        before = self._points.get(type_url, NOTHING)
        own = {one.name: one for one in self._accepted if one.type_url == type_url}
        mine = {name: self._accepted.pop(owner) for name, owner in own.items()}
        for name, needs in mine.items():
            self._add(needs, -1)
            self._add(before.needs(name), 1)
        self._points[type_url] = point
        for name in (*difference.other, *difference.missing):
            needs = NO_NEEDS
            if name in difference.other:
                needs = mine.get(name, before.needs(name))
            if needs or name in point.versions:
                self._accepted[ResourceName(type_url, name)] = needs
                self._add(needs, 1)
                self._add(point.needs(name), -1)

    def unknown_of(self, type_url: str) -> bool:
        """Return whether the client has resources of the type whose needs are not known."""
        return bool(self._unknown.get(type_url))

    def brought(self, owner: ResourceName, needs: Needs | None) -> None:
        """Count what the client has from an earlier stream; None if the version is not known."""
        if needs is None:
            self._unknown.setdefault(owner.type_url, set()).add(owner.name)
        elif needs:
            self._accepted[owner] = needs
            self._add(needs, 1)

    def learned(self, owner: ResourceName, needs: Needs) -> None:
        """Count what the client has of *owner*, now that its version is known."""
        unknown = self._unknown.get(owner.type_url, set())
        if owner.name in unknown:
            unknown.discard(owner.name)
            self.brought(owner, needs)

    def sent(self, needs: Needs) -> None:
        """Count the needs of a version that is under way."""
        self._add(needs, 1)

    def accepted(self, owner: ResourceName, needs: Needs) -> list[ResourceName]:
        """Let the version sent with *needs* replace what *owner* had; return what is free now."""
        free = self.gone(owner)
        point = self._points.get(owner.type_url, NOTHING)
        if owner.name in point.versions and point.needs(owner.name) == needs:
            self._accepted.pop(owner, None)
        elif needs:
            self._accepted[owner] = needs
        return free

    def refused(self, owner: ResourceName, version: str, needs: Needs) -> list[ResourceName]:
        """Forget a version that was sent with *needs*; return what is free now."""
        doubt = self._doubtful.get(owner, {}).pop(version, frozenset())
        return [*self._release(needs), *self._release(doubt)]

    def doubtful(self, owner: ResourceName, version: str, needs: Needs) -> list[ResourceName]:
        """Go on counting a version that the client may or may not have taken.

        It counts until that version is refused or another is accepted.
        """
        doubts = self._doubtful.setdefault(owner, {})
        if version not in doubts:
            doubts[version] = needs
            return []
        return list(self._release(needs))

    def gone(self, owner: ResourceName) -> list[ResourceName]:
        """Forget what the client had of *owner*; return what is free now."""
        self._unknown.get(owner.type_url, set()).discard(owner.name)
        held = [self._take(owner), *self._doubtful.pop(owner, {}).values()]
        return [need for needs in held for need in self._release(needs)]

    def _take(self, owner: ResourceName) -> Needs:
        """Return the needs of what the client had of *owner*, from now on of nothing."""
        point = self._points.get(owner.type_url)
        if point is None or owner.name not in point.versions:
            return self._accepted.pop(owner, NO_NEEDS)
        found = self._accepted.get(owner)
        self._accepted[owner] = NO_NEEDS
        return point.needs(owner.name) if found is None else found

    def _count(self, name: ResourceName) -> int:
        shared = sum(point.holders.get(name, 0) for point in self._points.values())
        return shared + self._holders.get(name, 0)

    def _add(self, needs: Needs, more: int) -> None:
        for need in needs:
            count = self._holders.get(need, 0) + more
            if count:
                self._holders[need] = count
            else:
                self._holders.pop(need, None)

    def _release(self, needs: Needs) -> Iterator[ResourceName]:
        for need in needs:
            self._add(frozenset((need,)), -1)
            if not self._count(need):
                yield need
