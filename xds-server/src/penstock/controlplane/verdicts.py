"""What nodes say of objects, as statuses tell it: without what is over in a moment.

A node that joins has nothing yet, and one whose Envoy starts anew has nothing again; a backend that
changes is on its way for a while. An object that is in force everywhere and that nobody changed
stays so meanwhile: who reads Programmed would take names of a whole cluster out of DNS. What a node
refuses is told at once, and so is everything about an object that was changed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.meta.clock import Clock
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef

PATIENCE = 30.0
"""Seconds after which it is told that an object is not in force everywhere any more."""


class _InForce(msgspec.Struct):
    """An object that was in force everywhere."""

    generation: int
    """At which it was."""
    since: float | None = None
    """When it ceased to be, monotonic seconds; None if it did not."""


class Verdicts:
    """The condition DataPlaneAcked of each object."""

    def __init__(self, ask: Callable[[ObjectRef], Condition | None], clock: Clock) -> None:
        """Know of nothing.

        Args:
            ask: returns what all nodes say of an object now; None if it goes to no node.
            clock: tells how long something lasts.
        """
        self._ask = ask
        self._clock = clock
        self._told: dict[ObjectRef, Condition] = {}
        self._in_force: dict[ObjectRef, _InForce] = {}
        self._waiting: set[ObjectRef] = set()

    def get(self, ref: ObjectRef) -> Condition | None:
        """Return what is to be told of an object, as of the last `look`."""
        return self._told.get(ref)

    def look(self, ref: ObjectRef, generation: int) -> bool:
        """Ask what nodes say of a generation of an object; return whether to tell something else.

        An object of which nodes get nothing any more is forgotten.
        """
        before, now = self._told.get(ref), self._ask(ref)
        if now is None:
            self.drop(ref)
            return before is not None
        if now.status is None and self._is_soon_over(ref, generation):
            self._waiting.add(ref)
            return False
        self._waiting.discard(ref)
        if now.status is True:
            self._in_force[ref] = _InForce(generation)
        elif now.status is False:
            self._in_force.pop(ref, None)
        self._told[ref] = now
        return before != now

    def drop(self, ref: ObjectRef) -> None:
        """Forget an object."""
        self._told.pop(ref, None)
        self._in_force.pop(ref, None)
        self._waiting.discard(ref)

    def overdue(self) -> list[ObjectRef]:
        """Return the objects that have not been in force everywhere for too long, sorted."""
        return sorted(ref for ref in self._waiting if self._has_waited(self._in_force[ref]))

    def clear(self) -> None:
        """Forget everything."""
        self._told.clear()
        self._in_force.clear()
        self._waiting.clear()

    def _is_soon_over(self, ref: ObjectRef, generation: int) -> bool:
        """Return whether an object that is not in force everywhere may soon be so again."""
        was = self._in_force.get(ref)
        if was is None or was.generation != generation:
            return False
        if was.since is None:
            was.since = self._clock.monotonic()
        return not self._has_waited(was)

    def _has_waited(self, one: _InForce) -> bool:
        return one.since is not None and self._clock.monotonic() - one.since >= PATIENCE
