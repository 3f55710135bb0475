"""The objects of one kind as they were last seen, and the events between one state and the next.

An object is told apart from an earlier one of the same name by its uid. A version that does not
decode leaves the last good one of the same object in force.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec

from penstock.core.decode import Decoded, examine
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object, ObjectMeta
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem
from penstock.sources.kubernetes.messages import (
    direct_decoder,
    read_metadata,
    read_object,
    without_copy,
)
from penstock.sources.source import NOWHERE, SourceProblem

REMEMBERED_DELETIONS = 1024
"""uids of deleted objects; a late event about one of them changes nothing."""


class Seen(msgspec.Struct, frozen=True):
    """One object."""

    uid: str
    version: str
    """resourceVersion of what was seen last, which is not what is in force if it is broken."""
    object: Decoded
    """The version in force."""
    problems: tuple[Problem, ...]
    generation: int = 0
    """Of what was seen last."""
    last_good: bool = False
    """Whether the version seen last did not decode and an earlier one is in force."""


Snapshot = dict[NamespacedName, Seen]


class Listens(Protocol):
    """Who is told more of objects than what they are decoded to."""

    def note(self, seen: Seen, raw: msgspec.Raw) -> None:
        """Take a version that was decoded, and the text of it."""
        ...

    def retain(self, kind: str, there: Collection[NamespacedName]) -> None:
        """Take that of a kind no other objects are there."""
        ...


def is_newer(version: str, than: str) -> bool:
    """Return whether a resourceVersion is newer; versions that are no numbers count as newer.

    Source: KEP-5504, comparable resource versions.
    """
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


class Table:
    """The objects of one kind."""

    def __init__(self, kind: type[Object], listens: Listens | None = None) -> None:
        """Start empty.

        Args:
            kind: of the objects.
            listens: told each version that was decoded, and what there is; None for nobody.
        """
        self._kind = kind
        self._listens = listens
        self._objects: Snapshot = {}
        self._deleted: dict[str, str] = {}
        """uids of objects that are gone, and the resourceVersion of their deletion."""
        self.outdated: dict[ObjectRef, Seen] = {}
        """Objects whose last version did not decode, so that an earlier one is in force."""

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._objects)

    def __iter__(self) -> Iterator[Decoded]:
        """Yield the versions in force."""
        return (seen.object for seen in self._objects.values())

    def problems(self) -> Iterator[SourceProblem]:
        """Yield what is wrong with objects."""
        for seen in self._objects.values():
            for problem in seen.problems:
                yield SourceProblem(
                    file="",
                    location=NOWHERE,
                    ref=seen.object.ref,
                    problem=problem,
                    last_good=seen.last_good,
                )

    def look(self, raw: msgspec.Raw, api_version: str) -> tuple[NamespacedName, Seen]:
        """Decode an object of a snapshot; one that did not change is not decoded again.

        Raises:
            UnreadableAnswerError: it is no object.
        """
        if not self._objects:
            seen = self._seen_directly(raw)
            if seen is not None:
                self._told(seen, raw)
                return seen.object.key, seen
        metadata = read_metadata(raw)
        key = NamespacedName(metadata.namespace, metadata.name)
        known = self._objects.get(key)
        if known and (known.uid, known.version) == (metadata.uid, metadata.resource_version):
            return key, known
        return key, self._told(self._decode(raw, api_version, metadata, known), raw)

    def replace(self, snapshot: Snapshot) -> tuple[Event, ...]:
        """Let *snapshot* be the state; return what changed, sorted by object."""
        events: list[Event] = []
        for key in sorted(self._objects.keys() | snapshot.keys()):
            after = snapshot.get(key)
            if after is None:
                events.append(self._remove(key))
            else:
                events += self._put(key, after)
        if self._listens is not None:
            self._listens.retain(self._kind.kind, snapshot.keys())
        return tuple(events)

    def change(self, kind: EventType, raw: msgspec.Raw, api_version: str) -> Iterable[Event]:
        """Apply one watch event; one that is late or repeated changes nothing.

        Raises:
            UnreadableAnswerError: it carries no object.
        """
        metadata = read_metadata(raw)
        gone = self._deleted.get(metadata.uid)
        if gone is not None and not is_newer(metadata.resource_version, gone):
            return ()  # late; a newer one has left the selection and come back
        key = NamespacedName(metadata.namespace, metadata.name)
        known = self._objects.get(key)
        if kind is EventType.DELETED:
            self._remember_deletion(metadata.uid, metadata.resource_version)
            return () if known is None or known.uid != metadata.uid else (self._remove(key),)
        if known is not None and not is_newer(metadata.resource_version, known.version):
            return ()
        return self._put(key, self._told(self._decode(raw, api_version, metadata, known), raw))

    def _put(self, key: NamespacedName, after: Seen) -> Iterator[Event]:
        before = self._objects.get(key)
        if before is not None and before.uid != after.uid:
            yield self._remove(key)
            before = None
        self._deleted.pop(after.uid, None)  # back from an older copy of the server's data
        self._objects[key] = after
        self._note(after)
        if before is None:
            yield Event(EventType.ADDED, after.object)
        elif before.object is not after.object and before.object != after.object:
            yield Event(EventType.MODIFIED, after.object)

    def _remove(self, key: NamespacedName) -> Event:
        seen = self._objects.pop(key)
        self.outdated.pop(seen.object.ref, None)
        self._remember_deletion(seen.uid, seen.version)
        return Event(EventType.DELETED, seen.object)

    def _note(self, seen: Seen) -> None:
        if seen.last_good:
            self.outdated[seen.object.ref] = seen
        elif self.outdated:
            self.outdated.pop(seen.object.ref, None)

    def _remember_deletion(self, uid: str, version: str) -> None:
        known = self._deleted.get(uid)
        self._deleted[uid] = version if known is None or is_newer(version, known) else known
        if len(self._deleted) > REMEMBERED_DELETIONS:
            del self._deleted[next(iter(self._deleted))]

    def _told(self, seen: Seen, raw: msgspec.Raw) -> Seen:
        if self._listens is not None:
            self._listens.note(seen, raw)
        return seen

    def _seen_directly(self, raw: msgspec.Raw) -> Seen | None:
        """Decode an object, unless there is anything to say about it."""
        decoded = direct_decoder(self._kind).decode(raw)
        if decoded is None:
            return None
        metadata = without_copy(decoded.metadata)
        if metadata is not decoded.metadata:
            decoded = msgspec.structs.replace(decoded, metadata=metadata)
        return Seen(
            metadata.uid, metadata.resource_version, decoded, (), generation=metadata.generation
        )

    def _decode(
        self, raw: msgspec.Raw, api_version: str, metadata: ObjectMeta, known: Seen | None
    ) -> Seen:
        seen = self._seen_directly(raw)
        if seen is not None:
            return seen
        examined = examine(self._kind, read_object(self._kind, api_version, raw, metadata))
        decoded, last_good = examined.object, False
        if isinstance(decoded, Broken) and known is not None and known.uid == metadata.uid:
            last_good = not isinstance(known.object, Broken)
            decoded = known.object if last_good else decoded
        return Seen(
            metadata.uid,
            metadata.resource_version,
            decoded,
            examined.problems,
            metadata.generation,
            last_good,
        )
