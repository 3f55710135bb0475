"""Generated objects into the API server, by the one that writes statuses.

`penstock.status` decides what is done and when; here is the IO. An object is read and then applied
by the server with the version that was read. One that is not there is applied without force; if
somebody made it meanwhile, what we said of it is taken back, and it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from penstock.core.kinds import EndpointSlice, Service
from penstock.gatewayapi.generated import Generated
from penstock.meta.clock import Clock
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.connection import Answer, Call, UnreachableError
from penstock.sources.kubernetes.event_writer import Send
from penstock.sources.kubernetes.requests import object_target
from penstock.sources.kubernetes.write_queue import Words, WriteQueue
from penstock.status.objects import MANAGER, Apply, Create, Delete, Keep, Mend, Step, step

APPLY = "application/apply-patch+yaml"
BY = f"fieldManager={MANAGER}"
_API_VERSIONS = {one.kind: one.api_versions[0] for one in (Service, EndpointSlice)}
_SOON = 0.5
"""Seconds between two looks at whether we may write."""
_WORDS = Words(
    "penstock.objects",
    "an object",
    "generated objects",
    "allow get, create, patch and delete on them by RBAC",
)


class Objects(msgspec.Struct, frozen=True, kw_only=True):
    """Where objects come from."""

    concerns: Callable[[ObjectRef], bool]
    """Returns whether an object is wanted, or one of ours that is there."""
    wanted: Callable[[ObjectRef], Generated | None]
    """Returns how it should be; None for not at all."""
    refused: Callable[[ObjectRef, str], None] = lambda _ref, _why: None
    """Told after a look why the server does not take an object, "" if it does."""


class ObjectWriter:
    """Makes, changes and deletes objects while we may."""

    def __init__(self, clock: Clock, random: Callable[[], float], objects: Objects) -> None:
        """Do nothing yet; *random* returns numbers in [0, 1), for jitter."""
        self._objects = objects
        self._queue = WriteQueue(clock, random, _WORDS)
        self._refused: dict[ObjectRef, Generated | None] = {}
        """Objects that are not taken, as they should have been then."""
        self.writes = 0
        """How many times an object was made, changed or deleted."""

    @property
    def waiting(self) -> int:
        """Return the number of objects that are to be looked at."""
        return len(self._queue)

    def mark(self, ref: ObjectRef) -> None:
        """Have an object looked at."""
        if ref in self._refused and self._refused[ref] != self._objects.wanted(ref):
            del self._refused[ref]
            self._queue.renew(ref)
        else:
            self._queue.mark(ref)

    def answered(self) -> None:
        """Take that the server does what it is asked about other things."""
        self._queue.answered()

    def clear(self) -> None:
        """Take that it is not our turn any more."""
        self._queue.clear()
        self._refused.clear()

    async def run(self, send: Send, may_write: Callable[[], bool]) -> None:
        """Write until cancelled, one object after the other.

        Args:
            send: makes a request.
            may_write: returns whether a write that begins now is ours to make.
        """
        while True:
            ref = await self._queue.next(may_write, _SOON)
            await self._look(ref, send, may_write)
            why = self._queue.refusal(ref)
            if why:
                self._refused[ref] = self._objects.wanted(ref)
            else:
                self._refused.pop(ref, None)
            self._objects.refused(ref, why)

    async def _look(self, ref: ObjectRef, send: Send, may_write: Callable[[], bool]) -> None:
        """Read *ref*, and do what is to be done about it."""
        if not self._objects.concerns(ref):
            self._queue.done(ref)
            return
        target = object_target(_API_VERSIONS[ref.kind], ref.kind, ref.key)
        try:
            read = await send(Call("GET", target))
            if read.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                self._settle(ref, read)
                return
            live = read.body if read.status == HTTPStatus.OK else None
            todo = step(live, self._objects.wanted(ref))
            if isinstance(todo, Keep):
                self._queue.done(ref)
            elif may_write():
                self.writes += self._settle(ref, await _do(todo, target, send))
            else:
                self._queue.abandon(ref)
        except UnreachableError as error:
            self._queue.unreachable(ref, error)

    def _settle(self, ref: ObjectRef, answer: Answer) -> bool:
        """Take the last answer about *ref*; return whether it was good."""
        done = self._queue.settle(ref, answer)
        if done:
            self._queue.tell("")
        return done


async def _do(todo: Step, target: str, send: Send) -> Answer:
    """Make the requests of a step and return the last answer."""
    match todo:
        case Create(body=body):
            return await _create(body, target, send)
        case Apply(body=body):
            return await send(Call("PATCH", f"{target}?{BY}&force=true", body, APPLY))
        case Mend(patch=patch):
            return await send(Call("PATCH", f"{target}?{BY}", patch))
        case Delete(options=options):
            return await send(Call("DELETE", target, options))
        case Keep():
            raise AssertionError(todo)


async def _create(body: dict[str, Any], target: str, send: Send) -> Answer:
    """Make an object; one that somebody else made meanwhile stays as it was."""
    answer = await send(Call("PATCH", f"{target}?{BY}", body, APPLY))
    if answer.status == HTTPStatus.OK:
        name = {field: body["metadata"][field] for field in ("name", "namespace")}
        nothing = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": name}
        return await send(Call("PATCH", f"{target}?{BY}", nothing, APPLY))
    return answer
