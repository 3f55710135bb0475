"""Events into the API server, by the one that writes statuses.

An Event is a hint for people: it may be lost, and it never holds anything up. Equal ones are
counted in one Event, and there is a limit for each object and for all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog

from penstock.meta.clock import Clock
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.sources.kubernetes.connection import Answer, Call, UnreachableError
from penstock.sources.kubernetes.requests import object_target
from penstock.status.transitions import (
    API_VERSION,
    Allowance,
    Place,
    Said,
    Transition,
    again,
    event,
    of_problems,
    settled,
    transition,
)

SERIES_SECONDS = 360.0
"""An equal Event within so long is counted in the earlier one."""
EACH_BURST, EACH_SECONDS = 10.0, 60.0
"""Events about one object: so many at once, and one in so many seconds."""
ALL_BURST, ALL_SECONDS = 100.0, 0.2
WAITING = 500
"""Events that wait to be written; more are left out."""
_KNOWN = 5_000
"""Events that are remembered, to count equal ones."""
_OBJECTS = 20_000
"""Objects whose last settled state is remembered; of others, what their status says counts."""
_log = structlog.get_logger("penstock.status")

Send = Callable[[Call], Awaitable[Answer]]
"""Makes one request; raises UnreachableError."""
_Key = tuple[str, str, str]


class _Told:
    def __init__(self, ref: ObjectRef, api_version: str, uid: str, told: Transition) -> None:
        self.ref, self.api_version, self.uid, self.told = ref, api_version, uid, told

    @property
    def key(self) -> _Key:
        return self.uid, self.told.reason, self.told.note


class EventWriter:
    """Tells of changes of statuses."""

    def __init__(
        self, clock: Clock, random: Callable[[], float], *, instance: str, controller: str
    ) -> None:
        """Know nothing.

        Args:
            clock: of Events, and of limits.
            random: returns numbers in [0, 1), for names.
            instance: of this process.
            controller: our controllerName.
        """
        self._clock = clock
        self._random = random
        self._instance = instance
        self._controller = controller
        # By uid: of an object that is made anew everything is news.
        self._known: OrderedDict[str, dict[Place, Said]] = OrderedDict()
        self._problems: OrderedDict[str, str] = OrderedDict()
        self._queue: asyncio.Queue[_Told] = asyncio.Queue(WAITING)
        self._written: OrderedDict[_Key, tuple[float, dict[str, Any]]] = OrderedDict()
        self._each: dict[ObjectRef, Allowance] = {}
        self._all = Allowance(ALL_BURST, ALL_SECONDS, clock.monotonic())
        self._trouble = ""
        self.writes = 0
        """How many Events were written, each counting of an earlier one included."""
        self.left_out = 0
        """How many were not, because of limits or because the server did not take them."""

    def changed(
        self,
        ref: ObjectRef,
        *,
        api_version: str,
        uid: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        """Take that a status was written.

        Args:
            ref: the object.
            api_version: of the object.
            uid: of the object.
            before: its status.
            after: the status now.
        """
        known = self._known.pop(uid, None)
        if known is None:
            known = settled(before, self._controller)
        now = self._known[uid] = settled(after, self._controller, known)
        while len(self._known) > _OBJECTS:
            self._known.popitem(last=False)
        told = transition(known, now)
        if told is not None:
            self._tell(_Told(ref, api_version, uid, told))

    def troubled(self, ref: ObjectRef, *, api_version: str, uid: str, problems: str) -> None:
        """Take what is wrong with an object that has no conditions to say it, "" for nothing."""
        before = self._problems.pop(uid, "")
        if problems:
            self._problems[uid] = problems
        while len(self._problems) > _OBJECTS:
            self._problems.popitem(last=False)
        told = of_problems(before, problems)
        if told is not None:
            self._tell(_Told(ref, api_version, uid, told))

    def clear(self) -> None:
        """Take that it is not our turn any more."""
        self._known.clear()
        self._problems.clear()
        self._written.clear()
        self._each.clear()
        while not self._queue.empty():
            self._queue.get_nowait()

    async def run(self, send: Send) -> None:
        """Write until cancelled."""
        while True:
            one = await self._queue.get()
            try:
                await self._write(one, send)
            except UnreachableError as error:
                self._lose(str(error))

    def _tell(self, one: _Told) -> None:
        """Have an Event written if the limits allow it."""
        now = self._clock.monotonic()
        each = self._each.setdefault(one.ref, Allowance(EACH_BURST, EACH_SECONDS, now))
        if self._queue.full() or not each.take(now) or not self._all.take(now):
            self.left_out += 1
            return
        self._queue.put_nowait(one)
        if len(self._each) > _KNOWN:
            self._each = {ref: left for ref, left in self._each.items() if not left.is_full(now)}

    async def _write(self, one: _Told, send: Send) -> None:
        """Write one Event, or count it in an equal one.

        Raises:
            UnreachableError: there is no answer.
        """
        now = self._clock.monotonic()
        since, written = self._written.pop(one.key, (float("-inf"), None))
        answer: Answer | None = None
        if written is not None and now < since + SERIES_SECONDS:
            body = again(written, self._clock.now())
            answer = await send(Call("PATCH", _target(written), body))
        if answer is None or answer.status == HTTPStatus.NOT_FOUND:
            body = self._new(one)
            answer = await send(Call("POST", _target(body).rpartition("/")[0], body))
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            self._lose(f"{answer.status} {answer.body.get('message', '')}")
            return
        self.writes += 1
        self._trouble = ""
        self._written[one.key] = (now, answer.body)
        while len(self._written) > _KNOWN:
            self._written.popitem(last=False)

    def _new(self, one: _Told) -> dict[str, Any]:
        return event(
            one.told,
            one.ref,
            api_version=one.api_version,
            uid=one.uid,
            name=f"{one.ref.name[:200]}.{int(self._random() * 2**60):015x}",
            instance=self._instance,
            wall=self._clock.now(),
        )

    def _lose(self, reason: str) -> None:
        self.left_out += 1
        if not self._trouble:
            hint = "allow create and patch on events.events.k8s.io by RBAC"
            _log.warning("Events cannot be written", reason=reason, hint=hint)
        self._trouble = reason


def _target(body: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    name = NamespacedName(metadata["namespace"], metadata["name"])
    return object_target(API_VERSION, "Event", name)
