"""What the writer of statuses is told: what each object should say, and when to look again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

import msgspec
import structlog

from penstock.compiler.classless import status_without_class
from penstock.compiler.ingress_problems import problems_of_ours
from penstock.compiler.kinds import STATUS_KINDS
from penstock.compiler.statuses import status_of, status_of_outdated, told_by, told_with
from penstock.controlplane.acknowledgements import Verdict
from penstock.controlplane.newly_served import NewlyServed
from penstock.controlplane.object_feed import ObjectFeed
from penstock.controlplane.verdicts import Verdicts
from penstock.controlplane.world import World
from penstock.core.events import Batch, EventType
from penstock.core.kinds import Service
from penstock.core.objects import Broken, Object, ObjectMeta
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.ingress.resources import Ingress
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Severity
from penstock.sources.kubernetes.object_writer import Objects
from penstock.sources.kubernetes.status_writer import Desired, Statuses, StatusWriter, Version
from penstock.sources.kubernetes.table import Seen

SUM_SECONDS = 1.0
"""Least seconds between two looks at what all nodes said."""
REPORT_SECONDS = 10.0
"""A controller that starts writes no status before all nodes have reported, or for so long."""
SUM_SHARE = 20.0
"""So many times as long as a look took is waited until the next one."""
TURN = 200
"""Objects that are looked at before others may do something."""

_log = structlog.get_logger("penstock.status")


class StatusFeed:
    """Stands between the world and a writer of statuses."""

    def __init__(
        self,
        world: World,
        clock: Clock,
        outdated: Callable[[], Mapping[ObjectRef, Seen]],
        version_of: Callable[[str], str],
        *,
        patience: float = REPORT_SECONDS,
    ) -> None:
        """Follow nothing before there is a writer.

        Args:
            world: what there is.
            clock: paces the sums.
            outdated: returns the objects of which an earlier version is in force.
            version_of: returns the apiVersion in which the server has a kind.
            patience: longest wait for the first reports of all nodes.
        """
        self._patience = patience
        self._world = world
        self._ask_outdated = outdated
        self._version_of = version_of
        self._outdated: Mapping[ObjectRef, Seen] = {}
        self._clock = clock
        self._writer: StatusWriter | None = None
        self._leads = False
        self._verdicts = Verdicts(clock)
        self._of_gateways: dict[ObjectRef, tuple[int, Verdict | None]] = {}
        """What nodes say of Gateways, which is asked for each of their ListenerSets, and when."""
        self._newly = NewlyServed(clock.monotonic)
        self._objects = ObjectFeed(world)

    @property
    def objects(self) -> Objects:
        """Return what a writer of generated objects asks."""
        return self._objects.objects

    @property
    def statuses(self) -> Statuses:
        """Return what a writer asks."""
        return Statuses(controller=CONTROLLER_NAME, desired=self.desired, leading=self._turn)

    async def run(self, writer: StatusWriter) -> None:
        """Have *writer* write once everything is known, until cancelled."""
        await self._world.synced.wait()
        await self._hear_all()
        self._writer, self._world.on_batch = writer, self._take
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writer.run())
            tasks.create_task(self._sum_up())

    async def _hear_all(self) -> None:
        """Wait for the first reports of nodes: unheard, they would seem to have nothing."""
        end = self._clock.monotonic() + self._patience
        while not all(self._world.acknowledgements.reporting.values()):
            if self._clock.monotonic() >= end:
                return
            await self._clock.sleep(0.1)

    def desired(self, ref: ObjectRef) -> Desired | None:
        """Return the status that an object should have, and follow it from now on."""
        thing = self._world.objects.get(ref)
        if thing is None:
            return None
        newest = self._outdated.get(ref)
        if newest is not None:
            said = status_of_outdated(thing, newest.problems, newest.generation)
            return None if said is None else self._desired(ref, newest, said)
        with _Apart(ref):
            self._world.compiler.statuses.follow(ref)
            # The newest: what nodes said since the last look at all objects. ListenerSets are many.
            if ref.kind != ListenerSet.kind or not self._knows(thing):
                self._sum(thing)
            return self._present(thing)
        return None

    def _present(self, thing: Object | Broken) -> Desired | None:
        """Return the status of an object of which it was asked what nodes say."""
        ref = thing.ref
        status = self._status(thing)
        if status is None and ref.kind == Service.kind:
            return None  # others write it, and there are many: not even looked at
        found = self._desired(ref, thing.metadata, status)
        if status is None:
            left = status_without_class(self._world.compiler.db, ref)
            if left is not None:
                return msgspec.structs.replace(found, afterwards=left)
        problems = self._problems(ref) if status is not None else None
        stays = self._verdicts.is_open(ref)  # it is marked when that is over
        return msgspec.structs.replace(found, problems=problems, in_force_stays=stays)

    def _status(self, thing: Object | Broken) -> dict[str, Any] | None:
        """Return the status of an object; a listener that is served since a moment is pending."""
        db, told = self._world.compiler.db, self._verdicts.get(thing.ref)
        status = status_of(db, thing, lambda _: told)
        if status is None or "listeners" not in status:
            return status
        if told is None or told.others.status is not True:
            return status
        served = dict(map(_is_programmed, status["listeners"]))
        closed = [name for name, programmed in served.items() if not programmed]
        if not closed and thing.ref not in self._newly:
            return status
        said = self._said(thing.ref)
        new = self._newly.look(thing.ref, served, closed, said)
        if not new or said is None:
            return status
        late = dict.fromkeys(new, said.acked.others.message)
        return status_of(db, thing, lambda _: told, late)

    def _problems(self, ref: ObjectRef) -> str | None:
        """Return in words what is wrong with an Ingress of ours, None of other objects."""
        if ref.kind != Ingress.kind:
            return None
        found = problems_of_ours.once(self._world.compiler.db, ref.key)
        ordered = sorted(found, key=lambda one: one.severity is not Severity.ERROR)
        return "; ".join(f"{one.path}: {one.message}" for one in ordered)

    def _turn(self, leads: bool) -> None:  # noqa: FBT001  # the writer's callback
        """Look at every object if it is our turn; follow nothing if it is not."""
        self._leads = leads
        if self._writer is not None and self._writer.objects is not None:
            self._objects.turn(self._writer.objects, leads=leads)
        self._of_gateways.clear()
        if not leads:
            self._world.compiler.statuses.clear()
            return
        self._outdated = self._ask_outdated()
        self._verdicts.clear()
        self._newly.clear()
        self._world.acknowledgements.changed()  # all are looked at
        for ref, thing in sorted(self._world.objects.items(), key=itemgetter(0)):
            if ref.kind in STATUS_KINDS:
                with _Apart(ref):
                    self._verdicts.begin(ref, thing.metadata.generation, self._said(ref))
                self._mark(ref)

    def _take(self, batch: Batch) -> None:
        """Look at objects that changed, and at those whose status other objects changed."""
        if not self._leads:
            return
        goals = self._world.compiler.statuses
        for event in batch.events:
            ref = event.object.ref
            if event.type is EventType.DELETED:
                goals.drop(ref)
                self._newly.drop(ref)
                self._verdicts.drop(ref)  # one that is made anew under the name is another one
                self._of_gateways.pop(ref, None)
                if ref.kind in STATUS_KINDS:
                    self._mark(ref, Version("", 0))  # the writer forgets it
            elif ref.kind in STATUS_KINDS:
                found = event.object.metadata
                self._mark(ref, Version(found.uid, found.generation, found.resource_version))
        for ref in goals.take():
            self._mark(ref)
        if self._writer is not None and self._writer.objects is not None:
            self._objects.take(self._writer.objects, batch)

    async def _sum_up(self) -> None:
        """Look at objects of which nodes say something else than before."""
        pause = SUM_SECONDS
        while True:
            await self._clock.sleep(pause)
            if not self._leads:
                continue
            self._look_for_outdated()
            began = self._clock.monotonic()
            await self._sum_changed()
            pause = max(SUM_SECONDS, SUM_SHARE * (self._clock.monotonic() - began))

    async def _sum_changed(self) -> None:
        """Sum up what may have changed; if we lead no longer, the next turn begins with all."""
        changed = self._world.acknowledgements.changed() | self._verdicts.due()
        for count, ref in enumerate(self._concerned(changed)):
            if count % TURN == TURN - 1:
                await asyncio.sleep(0)
            if not self._leads:
                return
            thing = self._world.objects.get(ref)
            if thing is not None and ref.kind in STATUS_KINDS:
                with _Apart(ref):
                    if self._sum(thing):
                        self._mark(ref)

    def _concerned(self, changed: Iterable[ObjectRef]) -> list[ObjectRef]:
        """Return these objects, and those whose statuses say what nodes say of them."""
        found: dict[ObjectRef, None] = {}
        for ref in sorted(changed):
            found[ref] = None
            with _Apart(ref):
                found |= dict.fromkeys(told_with(self._world.compiler.db, ref))
        return list(found)

    def _look_for_outdated(self) -> None:
        """Look at objects of which an earlier version came into force, or does not stay so."""
        before, self._outdated = self._outdated, self._ask_outdated()
        after = self._outdated
        if before != after:
            for ref in sorted(before.keys() | after.keys()):
                if ref.kind in STATUS_KINDS and before.get(ref) != after.get(ref):
                    self._mark(ref)

    def _sum(self, thing: Object | Broken) -> bool:
        """Ask what all nodes say of an object; return whether to tell something else now."""
        said = self._said(thing.ref)
        changed = self._verdicts.look(thing.ref, thing.metadata.generation, said)
        return changed or self._newly.is_over(thing.ref, said)

    def _knows(self, thing: Object | Broken) -> bool:
        return self._verdicts.knows(thing.ref, thing.metadata.generation)

    def _said(self, ref: ObjectRef) -> Verdict | None:
        """Return what nodes say of what the status of an object tells of."""
        acks, about = self._world.acknowledgements, told_by(self._world.compiler.db, ref)
        if about == ref:
            return acks.verdict(ref)
        revision, said = self._of_gateways.get(about, (-1, None))
        if revision != acks.revision:
            said = acks.verdict(about)
            self._of_gateways[about] = acks.revision, said
        return said

    def _desired(
        self, ref: ObjectRef, of: Seen | ObjectMeta, status: dict[str, Any] | None
    ) -> Desired:
        version = self._version_of(ref.kind)
        return Desired(api_version=version, uid=of.uid, generation=of.generation, status=status)

    def _mark(self, ref: ObjectRef, seen: Version | None = None) -> None:
        if self._writer is not None:
            self._writer.mark(ref, seen)


def _is_programmed(listener: dict[str, Any]) -> tuple[str, bool]:
    """Return the name of a listener in a status, and whether it is Programmed."""
    said = (one["status"] for one in listener["conditions"] if one["type"] == "Programmed")
    return listener["name"], "True" in said


class _Apart:
    """Lets a mistake about one object not stop all others."""

    def __init__(self, ref: ObjectRef) -> None:
        self._ref = ref

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Log the mistake; of what is none of ours, as being cancelled, let it pass."""
        mistaken = isinstance(error, Exception)
        if mistaken:
            text = "a mistake of ours: this status stays as it is"
            _log.error(text, object=str(self._ref), exc_info=error)
        return mistaken
