"""What nodes say of objects, as statuses tell it: without what is over in a moment.

A node that joins has nothing yet, and one whose Envoy starts anew has nothing again; a backend that
changes is on its way for a while. An object that is in force everywhere and that nobody changed
stays so meanwhile: who reads Programmed would take names of a whole cluster out of DNS. It ceases
to be when some node has not come on for `PATIENCE`; nodes that start one after the other, and
changes that never end, are no reason. What a node refuses is told at once, and so is everything
about an object that was changed; it is in force once all nodes have taken what there was then.

That nodes are counted in a message is no reason to write 10,000 statuses for each node that joins:
a change of numbers alone is told later, of a few objects at a time, with all that came meanwhile.
"""

from __future__ import annotations

import math
from itertools import islice

import msgspec

from penstock.compiler.acked import Acked
from penstock.controlplane.acknowledgements import Verdict
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef

PATIENCE = 30.0
"""Seconds after which it is told that an object is not in force everywhere any more."""
RECOUNT = 600.0
"""Seconds after which it is told that an object is in force on another number of nodes."""
RETELL = 10.0
"""Seconds after which other words are told about an object that is not in force everywhere."""
AT_ONCE = 50
"""Objects of which, in one look, no more than other words or numbers are told."""


class Told(msgspec.Struct, frozen=True):
    """What is told of an object."""

    acked: Acked
    generation: int
    """Of the object."""

    def is_reworded(self, other: Told) -> bool:
        """Return whether *other* says the same in other words."""
        before, after = self.acked.others, other.acked.others
        same = (before.status, before.reason) == (after.status, after.reason)
        same = same and self.acked.ports.keys() == other.acked.ports.keys()
        return same and self != other and self.generation == other.generation


class Verdicts:
    """What is told of each object: a port that is refused leaves the rest of it in force."""

    def __init__(self, clock: Clock) -> None:
        """Know of nothing; *clock* tells how long something lasts."""
        self._clock = clock
        self._told: dict[ObjectRef, Told] = {}
        self._in_force: dict[ObjectRef, int] = {}
        """Generations that were in force everywhere, and that nothing else was told of since."""
        self._begun: dict[ObjectRef, tuple[int, float]] = {}
        """Generations, and when there was the first look at each, or it ceased to be in force."""
        self._open: dict[ObjectRef, Acked] = {}
        """What nodes say of objects of which nothing has been told, but by others."""
        self._waiting: dict[ObjectRef, float] = {}
        """Objects that may be in force again soon, and until when that is waited for."""
        self._reworded: dict[ObjectRef, float] = {}
        """Objects of which only other words are to be told, and when."""
        self._in_turn: frozenset[ObjectRef] = frozenset()
        """Those of which it is told now."""

    def get(self, ref: ObjectRef) -> Acked | None:
        """Return what is to be told of an object, as of the last `look`."""
        told = self._told.get(ref)
        return self._open.get(ref) if told is None else told.acked

    def is_open(self, ref: ObjectRef) -> bool:
        """Return whether it stays, for now, if others told that an object is in force."""
        found = self._open.get(ref)
        return found is not None and not found.ports

    def knows(self, ref: ObjectRef, generation: int) -> bool:
        """Return whether there has been a look at a generation of an object."""
        told = self._told.get(ref)
        return ref in self._open or (told is not None and told.generation == generation)

    def begin(self, ref: ObjectRef, generation: int, said: Verdict | None) -> None:
        """Look at an object of which another controller told what it knew.

        What is on its way just now may well have been in force everywhere, so it is waited for if
        the status says so.
        """
        self._in_force[ref] = generation
        self.look(ref, generation, said)

    def look(self, ref: ObjectRef, generation: int, said: Verdict | None) -> bool:
        """Take what nodes say of a generation of an object; return whether to tell something else.

        An object of which nodes get nothing, for which *said* is None, is forgotten.
        """
        before = self._told.get(ref)
        if said is None:
            self.drop(ref)
            return before is not None
        said = self._as_followed(ref, generation, said)
        now, others = Told(said.acked, generation), said.acked.others
        if others.status is None and self._is_soon_over(ref, generation, said.since):
            self._waiting[ref] = said.since + PATIENCE
            if before is None:
                self._open[ref] = said.acked
            if ref in self._in_turn:
                self._reworded[ref] = self._clock.monotonic() + RETELL
            return self._tell_ports(ref, said.acked)
        self._waiting.pop(ref, None)
        self._open.pop(ref, None)
        if others.status is True:
            self._in_force[ref] = generation
        elif self._in_force.pop(ref, None) is not None or others.status is False:
            self._begun[ref] = (generation, self._clock.monotonic())
        if before is not None and before.is_reworded(now) and ref not in self._in_turn:
            wait = RECOUNT if said.acked.condition.status is True else RETELL
            self._reworded.setdefault(ref, self._clock.monotonic() + wait)
            return False
        self._reworded.pop(ref, None)
        self._told[ref] = now
        return before is None or before.acked != now.acked

    def drop(self, ref: ObjectRef) -> None:
        """Forget an object."""
        self._told.pop(ref, None)
        self._in_force.pop(ref, None)
        self._begun.pop(ref, None)
        self._waiting.pop(ref, None)
        self._open.pop(ref, None)
        self._reworded.pop(ref, None)

    def due(self) -> set[ObjectRef]:
        """Return the objects to look at because they waited long enough, a few of the reworded."""
        now = self._clock.monotonic()
        late = (ref for ref, until in self._reworded.items() if until <= now)
        self._in_turn = frozenset(islice(late, AT_ONCE))
        return {ref for ref, until in self._waiting.items() if until <= now}.union(self._in_turn)

    def clear(self) -> None:
        """Forget everything."""
        self._told.clear()
        self._in_force.clear()
        self._begun.clear()
        self._waiting.clear()
        self._open.clear()
        self._reworded.clear()
        self._in_turn = frozenset()

    def _as_followed(self, ref: ObjectRef, generation: int, said: Verdict) -> Verdict:
        """Return that an object is in force if all nodes have what there was when it began.

        What changes all the time is never as it should be everywhere at one moment.
        """
        now = self._clock.monotonic()
        begun = self._begun.get(ref)
        if begun is None or begun[0] != generation:
            begun = self._begun[ref] = (generation, now)
        is_new = self._in_force.get(ref) != generation
        if is_new and said.follows is not None and begun[1] < said.since:
            return Verdict(Acked(said.follows, said.acked.ports), math.inf)
        return said

    def _tell_ports(self, ref: ObjectRef, said: Acked) -> bool:
        """Tell which ports are refused while the rest of an object stays as it was told."""
        before = self._told.get(ref)
        if before is None or before.acked.ports.keys() == said.ports.keys():
            return False
        acked = Acked(before.acked.others, said.ports)
        self._told[ref] = msgspec.structs.replace(before, acked=acked)
        return True

    def _is_soon_over(self, ref: ObjectRef, generation: int, since: float) -> bool:
        """Return whether an object that is not in force everywhere may soon be so again."""
        lasts = self._clock.monotonic() - since
        return self._in_force.get(ref) == generation and lasts < PATIENCE
