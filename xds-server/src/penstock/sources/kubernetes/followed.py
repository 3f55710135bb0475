"""Objects that are watched one by one, because others refer to them: Secrets of Gateways.

There is one small watch for each, of that name in that namespace, so a role need not allow more
than those names. What is not referred to any more is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import msgspec

from penstock.core.decode import Decoded
from penstock.core.events import Event, EventType
from penstock.core.objects import Object
from penstock.meta.names import NamespacedName, ObjectRef
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
            self.reflectors[name] = self._make(scope)
            ref = self.ref(name)
            self.held = [one for one in self.held if one.object.ref != ref]
        tables = [self.reflectors.pop(name).table for name in ended]
        gone = tuple(Event(EventType.DELETED, thing) for table in tables for thing in table)
        return Change(begun, ended, gone)

    @property
    def synced(self) -> bool:
        """Return whether all that is referred to was looked for, or may not be read."""
        return all(one.synced or one.denied for one in self.reflectors.values())

    @property
    def tried(self) -> bool:
        """Return the same, one that could not be asked for included."""
        return all(one.synced or one.trouble for one in self.reflectors.values())

    def objects(self) -> Iterable[Decoded]:
        """Yield what is there."""
        return (thing for one in self.reflectors.values() for thing in one.table)

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
