"""Objects that are watched one by one, because others refer to them: Secrets of Gateways.

There is one small watch for each, of that name in that namespace, so a role need not allow more
than those names. What is not referred to any more is forgotten. For one that may not be read
something stands in that says so: whoever refers to it should not be told that it does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from penstock.core.decode import Decoded
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object, ObjectMeta
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem
from penstock.sources.kubernetes.reflector import Reflector
from penstock.sources.kubernetes.requests import Scope


class Referenced(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of which only what others refer to is watched."""

    kind: type[Object]
    holders: frozenset[type[Object]]
    """Kinds whose objects decide what is referred to."""
    waits: Collection[type[Object]]
    """Those of them that refer: a change of one is told when what it refers to is known."""
    names: Callable[[Iterable[Decoded]], frozenset[NamespacedName]]
    """Returns what all objects of the kinds `holders` refer to."""


class Change(msgspec.Struct, frozen=True):
    """What a change of references leads to."""

    begun: tuple[NamespacedName, ...] = ()
    ended: tuple[NamespacedName, ...] = ()
    events: tuple[Event, ...] = ()
    """Deletions of what is not referred to any more."""


class Followed:
    """The reflectors of one kind, one for each object that is referred to."""

    def __init__(self, referenced: Referenced, make: Callable[[Scope], Reflector]) -> None:
        """Follow nothing yet; *make* returns a reflector of the kind."""
        self.referenced = referenced
        self.reflectors: dict[NamespacedName, Reflector] = {}
        self.held: list[Event] = []
        """Changes that wait until what they refer to is known."""
        self._make = make
        self._names: dict[Reflector, NamespacedName] = {}
        self._unseen: dict[NamespacedName, Broken] = {}
        """What stands in for objects that may not be read."""

    def ref(self, name: NamespacedName) -> ObjectRef:
        """Return the object *name* of the kind."""
        return ObjectRef(self.referenced.kind.kind, name.namespace, name.name)

    def update(self, holders: Iterable[Decoded]) -> Change:
        """Follow what *holders* refer to, and nothing else."""
        wanted = self.referenced.names(holders)
        begun = tuple(sorted(wanted - self.reflectors.keys()))
        ended = tuple(sorted(self.reflectors.keys() - wanted))
        for name in begun:
            scope = Scope(namespace=name.namespace, fields=f"metadata.name={name.name}")
            self.reflectors[name] = made = self._make(scope)
            self._names[made] = name
            ref = self.ref(name)
            self.held = [one for one in self.held if one.object.ref != ref]
        gone = tuple(event for name in ended for event in self._end(name))
        return Change(begun, ended, gone)

    def _end(self, name: NamespacedName) -> Iterator[Event]:
        reflector = self.reflectors.pop(name)
        del self._names[reflector]
        for thing in reflector.table:
            yield Event(EventType.DELETED, thing)
        if name in self._unseen:
            yield Event(EventType.DELETED, self._unseen.pop(name))

    def look(self, reflector: Reflector) -> tuple[Event, ...]:
        """Return what *reflector* changed in what stands in for objects that may not be read.

        It comes before what the reflector itself says.
        """
        name = self._names.get(reflector)
        if name is None:
            return ()
        before = self._unseen.pop(name, None)
        if not reflector.denied or len(reflector.table):
            return () if before is None else (Event(EventType.DELETED, before),)
        now = self._unseen[name] = _unseen(self.ref(name), reflector)
        if before is None:
            return (Event(EventType.ADDED, now),)
        return () if before == now else (Event(EventType.MODIFIED, now),)

    @property
    def synced(self) -> bool:
        """Return whether all that is referred to was looked for, or may not be read."""
        return all(one.synced or one.denied for one in self.reflectors.values())

    @property
    def tried(self) -> bool:
        """Return the same, one that could not be asked for included."""
        return all(one.synced or one.trouble for one in self.reflectors.values())

    def objects(self) -> Iterable[Decoded]:
        """Yield what is there, and what stands in."""
        yield from self._unseen.values()
        for one in self.reflectors.values():
            yield from one.table

    def sort_out(self, events: Iterable[Event], gone: Iterable[Event]) -> tuple[Event, ...]:
        """Return what may be told now.

        Args:
            events: what changed; a change of references waits as long as what they lead to is not
                known.
            gone: deletions of what is not referred to any more, which come after such a change.
        """
        if self.tried:
            held, self.held = self.held, []
            return (*held, *events, *gone)
        waits = {kind.kind for kind in self.referenced.waits}
        now: list[Event] = []
        for event in events:
            (self.held if event.object.ref.kind in waits else now).append(event)
        self.held += gone
        return tuple(now)


def cannot_be_read(reflector: Reflector) -> tuple[str, str]:
    """Return what to say of a kind or an object that may not be read, and what helps."""
    return f"cannot be read: {reflector.trouble}", "allow get, list and watch by RBAC"


def _unseen(ref: ObjectRef, reflector: Reflector) -> Broken:
    message, hint = cannot_be_read(reflector)
    return Broken(
        of_kind=ref.kind,
        metadata=ObjectMeta(name=ref.name, namespace=ref.namespace),
        raw={},
        problems=(Problem("", message, hint),),
        unseen=True,
    )
