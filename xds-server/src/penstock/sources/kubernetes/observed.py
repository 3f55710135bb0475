"""Statuses as the API server has just told them, so that who writes statuses need not ask again.

A list of everything tells all of them, and each event of a watch one. Each is given away once: what
is kept is only what nobody has looked at yet, and not more than a few megabytes: statuses beyond
that are read when they are looked at. A write names the version that it is based on, so one that
has become old is refused by the server, and read anew.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from penstock.meta.names import NamespacedName, ObjectRef
from penstock.sources.kubernetes.table import Seen

MOST = 4 << 20
"""Bytes of statuses that are kept, beside what it takes to keep them."""


class Told(msgspec.Struct, frozen=True):
    """What an object said of itself in one version."""

    uid: str
    version: str
    """resourceVersion."""
    generation: int
    status: bytes
    """JSON; empty if there was none."""

    def as_read(self, ref: ObjectRef, api_version: str) -> dict[str, Any]:
        """Return the object as if it had been read, but for all that a status does not need."""
        metadata: dict[str, Any] = {
            "name": ref.name,
            "uid": self.uid,
            "resourceVersion": self.version,
            "generation": self.generation,
        }
        if ref.namespace:
            metadata["namespace"] = ref.namespace
        found = {"apiVersion": api_version, "kind": ref.kind, "metadata": metadata}
        return found | ({"status": msgspec.json.decode(self.status)} if self.status else {})


class _Status(msgspec.Struct, frozen=True):
    status: msgspec.Raw = msgspec.Raw()


_status = msgspec.json.Decoder(_Status)


class Observed:
    """What was told of objects of some kinds and not looked at yet."""

    def __init__(self, kinds: Collection[str] = (), most: int = MOST) -> None:
        """Keep statuses of *kinds* from now on, up to *most* bytes.

        Only kinds of CustomResourceDefinitions can be written from here: of others the server takes
        labels and annotations from a write of the status, too, and those are not kept.
        """
        self._kinds = frozenset(kinds)
        self._told: dict[ObjectRef, Told] = {}
        self._left = self._most = most
        """Bytes."""
        self._keeps = True

    def __len__(self) -> int:
        """Return the number of objects that nobody has looked at."""
        return len(self._told)

    def follows(self, kind: str) -> bool:
        """Return whether statuses of a kind are wanted."""
        return kind in self._kinds

    def note(self, seen: Seen, raw: msgspec.Raw) -> None:
        """Keep the status in *raw*, the version that was *seen*."""
        if not self._keeps:
            return
        ref = seen.object.ref
        self.take(ref)
        status = bytes(_status.decode(raw).status)  # a copy: *raw* is a part of a whole page
        if len(status) <= self._left:
            self._left -= len(status)
            self._told[ref] = Told(seen.uid, seen.version, seen.generation, status)

    def retain(self, kind: str, there: Collection[NamespacedName]) -> None:
        """Forget what was told of others of a kind: they went while everything was read."""
        for ref in [one for one in self._told if one.kind == kind and one.key not in there]:
            self.take(ref)

    def take(self, ref: ObjectRef) -> Told | None:
        """Return what was told of an object and forget it; None if nothing was."""
        told = self._told.pop(ref, None)
        if told is not None:
            self._left += len(told.status)
        return told

    def begin(self) -> None:
        """Keep what is told from now on."""
        self._keeps = True

    def end(self) -> None:
        """Keep nothing: somebody else writes."""
        self._keeps = False
        self._told.clear()
        self._left = self._most
