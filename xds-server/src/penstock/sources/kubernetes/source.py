"""The Kubernetes source: objects from an API server, watched.

The same objects and events as from files: see `penstock.sources.source`. Nothing is told before
every kind is known; a kind that the server does not serve counts as known and empty, and is taken
up when it is served (its CRD was installed).

Some kinds are watched object by object instead, those that others refer to. Nothing is told before
those are known, either; later a new reference is told when what it leads to is known, or cannot be.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
import structlog

from penstock.core.events import Batch, Event, EventType
from penstock.core.objects import Object
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import ApiServer
from penstock.sources.kubernetes.followed import Followed, Referenced, cannot_be_read
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.pruning import is_servers_own
from penstock.sources.kubernetes.reflector import Phase, Reflector
from penstock.sources.kubernetes.requests import EVERYTHING, Pace, Scope
from penstock.sources.kubernetes.table import Seen
from penstock.sources.source import NOWHERE, Sink, SourceProblem

_log = structlog.get_logger("penstock.kubernetes")
SOURCE_PACE = Pace(first_as_list=True)
_NO_ENVIRONMENT: Mapping[str, str] = {}
_NO_SCOPES: Mapping[type[Object], Scope] = {}


class KindState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with one kind."""

    name: str
    """Resource and group, as `httproutes.gateway.networking.k8s.io`."""
    phase: Phase
    synced: bool
    objects: int
    snapshots: int
    """How often everything was read."""
    trouble: str
    """Why the last request failed, "" if it did not."""


class KubernetesSource:
    """Objects of an API server, and their changes."""

    def __init__(
        self,
        access: Access,
        kinds: Iterable[type[Object]],
        clock: Clock,
        random: Callable[[], float],
        *,
        pace: Pace = SOURCE_PACE,
        environment: Mapping[str, str] = _NO_ENVIRONMENT,
        scopes: Mapping[type[Object], Scope] = _NO_SCOPES,
        referenced: Iterable[Referenced] = (),
        observed: Observed | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            access: where the server is and who we are.
            kinds: what to watch.
            clock: paces everything, and tells that a watch stalls.
            random: returns numbers in [0, 1), for jitter.
            pace: sizes and times; single objects are not listed at first.
            environment: what a credential plugin is started with.
            scopes: of kinds of which only some objects are watched.
            referenced: more kinds, of which only what others refer to is watched.
            observed: keeps the statuses that are told, for who writes them; None for nobody.
        """
        self.observed = Observed() if observed is None else observed
        """Statuses that were told and not looked at."""
        self._server = ApiServer(access, clock, environment)
        self._reflectors = tuple(
            Reflector(
                kind,
                random,
                pace,
                scopes.get(kind, EVERYTHING),
                self.observed if self.observed.follows(kind.kind) else None,
            )
            for kind in kinds
        )
        single = msgspec.structs.replace(pace, first_as_list=False)
        self._followed = tuple(
            Followed(one, functools.partial(Reflector, one.kind, random, single))
            for one in referenced
        )
        self._watches: dict[ObjectRef, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._first = True
        self._told: set[str] = set()

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""

        def watch(reflector: Reflector) -> asyncio.Task[None]:
            return tasks.create_task(self._server.follow(session, reflector, deliver))

        async def deliver(reflector: Reflector, events: tuple[Event, ...]) -> None:
            self._tell(reflector)
            for event in events:
                if event.type is EventType.DELETED:
                    self.observed.take(event.object.ref)
            async with self._turn:
                batch = self._batch(self._with_references(reflector, events, watch))
                if batch is not None:
                    await sink(batch)

        async with self._server.session() as session, asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(self._server.follow(session, reflector, deliver))

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present: with objects, and with kinds that cannot be read."""
        found = [problem for one in self._every() for problem in one.table.problems()]
        found.sort(key=lambda one: (str(one.ref), one.problem))
        return (*self._kind_problems(), *found)

    def outdated(self) -> Mapping[ObjectRef, Seen]:
        """Return the objects of which an earlier version is in force."""
        return {ref: seen for one in self._every() for ref, seen in one.table.outdated.items()}

    def version_of(self, kind: str) -> str:
        """Return the apiVersion in which a kind is read: the newest that server and we know."""
        return next(one.api_version for one in self._reflectors if one.kind.kind == kind)

    def locate(self, ref: ObjectRef, path: str) -> Location | None:  # noqa: ARG002  # the protocol's
        """Return None: objects of an API server are in no file."""
        return None

    def states(self) -> tuple[KindState, ...]:
        """Return how it stands with each kind."""
        return tuple(
            KindState(
                name=one.name,
                phase=one.phase,
                synced=one.synced,
                objects=len(one.table),
                snapshots=one.snapshots,
                trouble=one.trouble,
            )
            for one in self._reflectors
        ) + tuple(state for one in self._followed for state in _followed_state(one))

    def _every(self) -> tuple[Reflector, ...]:
        followed = (one for each in self._followed for one in each.reflectors.values())
        return (*self._reflectors, *followed)

    def _with_references(
        self,
        reflector: Reflector,
        events: tuple[Event, ...],
        watch: Callable[[Reflector], asyncio.Task[None]],
    ) -> tuple[Event, ...]:
        """Watch what is referred to now; return what may be told."""
        if not all(one.synced for one in self._reflectors):
            return events
        for followed in self._followed:
            holders = followed.referenced.holders
            gone: tuple[Event, ...] = ()
            events = (*followed.look(reflector), *events)
            if self._first or (events and reflector.kind in holders):
                tables = (one.table for one in self._reflectors if one.kind in holders)
                change = followed.update(thing for table in tables for thing in table)
                for name in change.ended:
                    self._watches.pop(followed.ref(name)).cancel()
                for name in change.begun:
                    self._watches[followed.ref(name)] = watch(followed.reflectors[name])
                gone = change.events
            if not self._first:
                events = followed.sort_out(events, gone)
        return events

    def _batch(self, events: tuple[Event, ...]) -> Batch | None:
        if self._first:
            if not all(one.synced for one in self._reflectors):
                return None
            if not all(one.synced for one in self._followed):
                return None
            self._first = False
            tables = (thing for one in self._reflectors for thing in one.table)
            followed = (thing for one in self._followed for thing in one.objects())
            every = (Event(EventType.ADDED, thing) for thing in (*tables, *followed))
            return Batch(tuple(sorted(every, key=lambda event: event.object.ref)))
        return Batch(events) if events else None

    def _kind_problems(self) -> Iterator[SourceProblem]:
        for one in self._reflectors:
            if one.phase is Phase.ABSENT and not is_servers_own(one.kind):
                message = f"the API server does not know {one.name}"
                hint = "install its CustomResourceDefinition; until then there are none"
                yield _problem(message, hint, Severity.WARNING)
            elif one.denied:
                message, hint = cannot_be_read(one)
                yield _problem(f"{one.name} {message}", hint, Severity.ERROR)
        followed = (item for each in self._followed for item in sorted(each.reflectors.items()))
        for name, one in followed:
            if one.denied:
                message, hint = cannot_be_read(one)
                yield _problem(f"{one.kind.kind} {name} {message}", hint, Severity.ERROR)

    def _tell(self, reflector: Reflector) -> None:
        """Log each trouble once, however many kinds and attempts it concerns, and its end."""
        now = {_trouble(one) for one in self._every() if one.trouble}
        about = _trouble(reflector)
        if reflector.trouble and about not in self._told:
            _log.warning(about, kind=reflector.name, reason=reflector.trouble)
            self._told.add(about)
        for ended in sorted(self._told - now):
            _log.info(f"no more: {ended}")
        self._told &= now


def _followed_state(followed: Followed) -> tuple[KindState, ...]:
    """Return how it stands with what is watched one by one, together."""
    every = list(followed.reflectors.values())
    if not every:
        return ()
    worst = next((one for one in every if one.trouble), every[0])
    return (
        KindState(
            name=worst.name,
            phase=worst.phase,
            synced=all(one.synced for one in every),
            objects=sum(len(one.table) for one in every),
            snapshots=sum(one.snapshots for one in every),
            trouble=worst.trouble,
        ),
    )


def _trouble(reflector: Reflector) -> str:
    """Return what the trouble of a reflector is, the same for kinds that suffer from one cause."""
    if reflector.phase is Phase.ABSENT:
        return f"{reflector.name} is not served, so there are none"
    if reflector.denied:
        return f"{reflector.name} may not be read"
    return "the API server does not serve us, what is known stays"


def _problem(message: str, hint: str, severity: Severity) -> SourceProblem:
    return SourceProblem(file="", location=NOWHERE, problem=Problem("", message, hint, severity))
