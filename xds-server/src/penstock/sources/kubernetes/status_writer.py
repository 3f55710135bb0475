"""Statuses into the API server, by one of several controllers.

`penstock.status` decides who writes, what, and when; here is the IO. A status is read, or was just
told, then merged and written with that version, so nothing that others wrote meanwhile is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
import structlog

from penstock.meta.clock import Clock
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import Answer, ApiServer, Call, UnreachableError
from penstock.sources.kubernetes.event_writer import EventWriter, Send
from penstock.sources.kubernetes.object_writer import ObjectWriter
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.requests import object_target
from penstock.sources.kubernetes.write_queue import Words, WriteQueue
from penstock.status.lease import API_VERSION, Ask, Election, Terms, Wait
from penstock.status.merge import is_in_force, merged, tells_of_us
from penstock.status.plan import GATHER

LEASE = "penstock-status"
CALL_SECONDS = 4.0
"""Longest wait for an answer about an object."""
AT_ONCE = 4
"""Objects looked at together."""
_WORDS = Words(
    "penstock.status",
    "a status",
    "statuses",
    "allow get, create and update on leases, and update on statuses, by RBAC",
)

_log = structlog.get_logger("penstock.status")


class Version(msgspec.Struct, frozen=True):
    """An object as it was at some time."""

    uid: str
    """ "" if it is gone."""
    generation: int
    resource_version: str = ""

    def is_like(self, other: Version) -> bool:
        """Return whether the same is wanted of it as of *other*, whatever its status says."""
        return (self.uid, self.generation) == (other.uid, other.generation)


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """The status that an object should have."""

    api_version: str
    uid: str
    generation: int
    """Of the version of the object that the status is about."""
    status: dict[str, Any] | None
    """Our part of it, None for nothing."""
    afterwards: dict[str, Any] | None = None
    """What is left to say if it is nothing, where an earlier status tells of us."""
    problems: str | None = None
    """What is wrong with an object that has no conditions to say it, "" for nothing."""
    in_force_stays: bool = False
    """Whether nothing is written if the status says that this generation is in force."""


class Statuses(msgspec.Struct, frozen=True, kw_only=True):
    """Where statuses come from."""

    controller: str
    """controllerName of our entries in `parents`."""
    desired: Callable[[ObjectRef], Desired | None]
    """Returns what an object should say; None if it is not known (any more)."""
    leading: Callable[[bool], None]
    """Told when we begin to write, to mark every object, and when we stop."""


class StatusWriter:
    """Writes statuses while it holds the Lease."""

    def __init__(
        self,
        access: Access,
        clock: Clock,
        random: Callable[[], float],
        statuses: Statuses,
        *,
        identity: str,
        namespace: str,
        terms: Terms | None = None,
        environment: Mapping[str, str],
        events: EventWriter | None = None,
        objects: ObjectWriter | None = None,
        observed: Observed | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            access: where the server is and who we are.
            clock: paces everything.
            random: returns numbers in [0, 1), for jitter.
            statuses: what to write.
            identity: of this process, unlike any other one's.
            namespace: of the Lease.
            terms: of the Lease.
            environment: what a credential plugin is started with.
            events: told of each status that is written; None for no Events.
            objects: writes other things while we hold the Lease; None for nothing.
            observed: statuses that were told, which need not be read; None for none.
        """
        self._observed = Observed() if observed is None else observed
        self._server = ApiServer(access, clock, environment)
        self.events = events
        """Told of each status that is written."""
        self.objects = objects
        """Writes while we may."""
        self._clock = clock
        self._statuses = statuses
        self._terms = terms or Terms()
        self._election = Election(identity, namespace, LEASE, self._terms, random)
        self._lease = NamespacedName(namespace, LEASE)
        self._queue = WriteQueue(clock, random, _WORDS, GATHER)
        self._was_leading = False
        self._written: dict[ObjectRef, str] = {}
        self._refused: dict[ObjectRef, Version] = {}
        """Objects whose statuses are not taken, as they were then."""
        self.writes = 0
        """How many statuses were written."""
        self.reads = 0
        """How many objects were read because nobody had told their statuses."""

    @property
    def leads(self) -> bool:
        """Return whether we may write now."""
        return self._election.leads(self._clock.monotonic())

    @property
    def waiting(self) -> int:
        """Return the number of objects that are to be looked at."""
        return len(self._queue)

    @property
    def waiting_for(self) -> Sequence[ObjectRef]:
        """Return these objects, sorted."""
        return sorted(self._queue)

    def mark(self, ref: ObjectRef, seen: Version | None = None) -> None:
        """Have the status of *ref* looked at, unless what was *seen* of it is what we made."""
        written = self._written.pop(ref, "")
        if written and seen is not None and seen.resource_version == written:
            self._observed.take(ref)
        elif self._was_leading:
            refused = self._refused.get(ref)
            if refused is None or seen is None or seen.is_like(refused):
                self._queue.mark(ref)
            else:
                del self._refused[ref]
                self._queue.renew(ref)

    async def run(self) -> None:
        """Write while we are the one to do it, until cancelled; then let another one begin."""
        async with self._server.session() as session:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._stand(session))
                    tasks.create_task(self._write_all(session))
                    if self.events is not None:
                        tasks.create_task(self.events.run(self._sender(session)))
                    if self.objects is not None:
                        tasks.create_task(self.objects.run(self._sender(session), self._may_begin))
            finally:
                await self._release(session)

    async def _stand(self, session: aiohttp.ClientSession) -> None:
        """Be a candidate for the Lease, or its holder."""
        election, clock = self._election, self._clock
        while True:
            now = clock.monotonic()
            match election.next(now, clock.now()):
                case Wait(seconds=seconds):
                    left = election.until - now
                    await clock.sleep(min(seconds, left) if left > 0 else seconds)
                case asked:
                    await self._ask(session, asked)
            self._notice()

    async def _ask(self, session: aiohttp.ClientSession, asked: Ask) -> None:
        # The answer may take longer than we lead; the writer looks at the clock by itself.
        try:
            answer = await self._server.call(session, self._about_lease(asked), self._terms.answer)
        except UnreachableError as error:
            self._election.failed(self._clock.monotonic())
            self._queue.tell(str(error))
            return
        self._election.answered(asked, answer.status, answer.body, self._clock.monotonic())
        known = answer.status < HTTPStatus.BAD_REQUEST
        known |= answer.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
        self._queue.tell("" if known else f"{answer.status} {answer.body.get('message', '')}")
        if answer.status in (HTTPStatus.OK, HTTPStatus.CREATED):
            self._queue.answered()
            if self.objects is not None:
                self.objects.answered()

    def _about_lease(self, asked: Ask) -> Call:
        target = object_target(API_VERSION, "Lease", self._lease)
        if asked.method == "POST":
            target = target.rpartition("/")[0]
        return Call(asked.method, target, asked.body)

    def _notice(self) -> None:
        """Tell when we begin and when we stop to write."""
        leads = self.leads
        if leads:
            self._observed.begin()
        elif self._election.holder not in ("", self._election.identity):
            self._observed.end()
        if leads is self._was_leading:
            return
        self._was_leading = leads
        if leads:
            _log.info("writing statuses", term=self._election.term)
        else:
            self._queue.clear()
            self._written.clear()
            self._refused.clear()
            if self.events is not None:
                self.events.clear()
            if self.objects is not None:
                self.objects.clear()
            _log.info("not writing statuses any more", holder=self._election.holder)
        self._statuses.leading(leads)
        self._queue.wake()

    async def _release(self, session: aiohttp.ClientSession) -> None:
        asked = self._election.release(self._clock.monotonic(), self._clock.now())
        if asked is not None:
            with contextlib.suppress(UnreachableError):
                await self._server.call(session, self._about_lease(asked), 1.0)

    async def _write_all(self, session: aiohttp.ClientSession) -> None:
        free = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as looks:
            while True:
                await free.acquire()
                ref = await self._queue.next(self._may_begin, self._terms.renew / 4)
                look = looks.create_task(self._look(session, ref))
                look.add_done_callback(lambda _: free.release())

    def _may_begin(self) -> bool:
        """Return whether a write that begins now ends while we are the one to write."""
        ends = self._clock.monotonic() + self._call_seconds
        return self._was_leading and self._election.leads(ends)

    @property
    def _call_seconds(self) -> float:
        return min(CALL_SECONDS, self._terms.deadline / 2)

    async def _look(self, session: aiohttp.ClientSession, ref: ObjectRef) -> None:
        """Read the status of *ref*, and write it if it should be another one."""
        told = self._observed.take(ref)  # also if it is of no use
        desired = self._statuses.desired(ref)
        if desired is None:
            self._written.pop(ref, None)
            self._refused.pop(ref, None)
            self._queue.done(ref)
            return
        target = object_target(desired.api_version, ref.kind, ref.key)
        try:
            if told is None:
                self.reads += 1
                read = await self._server.call(session, Call("GET", target), self._call_seconds)
            else:
                read = Answer(status=HTTPStatus.OK, body=told.as_read(ref, desired.api_version))
            update = self._update(desired, read.body) if read.status == HTTPStatus.OK else None
            if read.status == HTTPStatus.OK and _is_known(desired, read.body):
                self._announce_problems(desired, ref)
            if update is None:
                self._settle(ref, desired, read)
            elif not self._may_begin():
                self._queue.abandon(ref)
            else:
                call = Call("PUT", f"{target}/status?fieldManager=penstock", update)
                answer = await self._server.call(session, call, self._call_seconds)
                if answer.status == HTTPStatus.OK:
                    self.writes += 1
                    self._written[ref] = answer.body.get("metadata", {}).get("resourceVersion", "")
                    self._announce(desired, ref, read.body, update)
                self._settle(ref, desired, answer)
        except UnreachableError as error:
            self._queue.unreachable(ref, error)
            self._note(ref, desired)

    def _settle(self, ref: ObjectRef, desired: Desired, answer: Answer) -> None:
        self._queue.settle(ref, answer)
        self._note(ref, desired)

    def _note(self, ref: ObjectRef, desired: Desired) -> None:
        """Note of which version of an object the status is not taken, if it is not."""
        if self._queue.refusal(ref):
            self._refused[ref] = Version(desired.uid, desired.generation)
        else:
            self._refused.pop(ref, None)

    def _announce(
        self, desired: Desired, ref: ObjectRef, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        """Have an Event written if the status says something new for people."""
        if self.events is not None:
            self.events.changed(
                ref,
                api_version=desired.api_version,
                uid=desired.uid,
                before=before.get("status") or {},
                after=after["status"],
            )

    def _announce_problems(self, desired: Desired, ref: ObjectRef) -> None:
        if self.events is not None and desired.problems is not None:
            self.events.troubled(
                ref,
                api_version=desired.api_version,
                uid=desired.uid,
                problems=desired.problems,
            )

    def _sender(self, session: aiohttp.ClientSession) -> Send:
        async def send(call: Call) -> Answer:
            return await self._server.call(session, call, self._call_seconds)

        return send

    def _update(self, desired: Desired, read: dict[str, Any]) -> dict[str, Any] | None:
        """Return the object to write; None if its status is as it should be.

        An object that is not the one we know is left alone: what it is now will be told, and then
        it is looked at again.
        """
        if not _is_known(desired, read):
            return None
        observed = read.get("status") or {}
        who = self._statuses.controller
        if desired.in_force_stays and is_in_force(observed, who, desired.generation):
            return None
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = desired.status
        if status is None and desired.afterwards is not None and tells_of_us(observed):
            status = desired.afterwards
        wanted = merged(observed, status, who, now, read.get("kind", ""))
        return None if wanted == observed else {**read, "status": wanted}


def _is_known(desired: Desired, read: dict[str, Any]) -> bool:
    """Return whether an object is the one, and the version, that *desired* is about."""
    metadata = read.get("metadata", {})
    found = metadata.get("uid"), metadata.get("generation", 0)
    return found == (desired.uid, desired.generation)
