"""Which resources a client's other resources still need, so that none leaves too early.

A client may run any version that it was sent and has not refused, so the needs of the accepted
version and those of every version under way count, each once. Of a resource that a client brought
along from an earlier stream in a version that we do not know, the needs are not known either.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.xds.resource import ResourceName

Needs = frozenset[ResourceName]


class HeldNeeds:
    """Counts, for one client, how many holders each needed resource has."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._holders: dict[ResourceName, int] = {}
        self._accepted: dict[ResourceName, Needs] = {}
        self._doubtful: dict[ResourceName, dict[str, Needs]] = {}
        self._unknown: dict[str, set[str]] = {}

    def __contains__(self, name: ResourceName) -> bool:
        """Return whether the client has, or may have, something that needs *name*."""
        return name in self._holders

    def unknown_of(self, type_url: str) -> bool:
        """Return whether the client has resources of the type whose needs are not known."""
        return bool(self._unknown.get(type_url))

    def brought(self, owner: ResourceName, needs: Needs | None) -> None:
        """Count what the client has from an earlier stream; None if the version is not known."""
        if needs is None:
            self._unknown.setdefault(owner.type_url, set()).add(owner.name)
        elif needs:
            self._accepted[owner] = needs
            self.sent(needs)

    def learned(self, owner: ResourceName, needs: Needs) -> None:
        """Count what the client has of *owner*, now that its version is known."""
        unknown = self._unknown.get(owner.type_url, set())
        if owner.name in unknown:
            unknown.discard(owner.name)
            self.brought(owner, needs)

    def sent(self, needs: Needs) -> None:
        """Count the needs of a version that is under way."""
        for need in needs:
            self._holders[need] = self._holders.get(need, 0) + 1

    def accepted(self, owner: ResourceName, needs: Needs) -> list[ResourceName]:
        """Let the version sent with *needs* replace what *owner* had; return what is free now."""
        free = self.gone(owner)
        if needs:
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
        held = [self._accepted.pop(owner, frozenset()), *self._doubtful.pop(owner, {}).values()]
        return [need for needs in held for need in self._release(needs)]

    def _release(self, needs: Needs) -> Iterator[ResourceName]:
        for need in needs:
            self._holders[need] -= 1
            if not self._holders[need]:
                del self._holders[need]
                yield need
