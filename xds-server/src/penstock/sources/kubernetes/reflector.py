"""What to ask an API server about one kind, and what its answers change. No IO, no clock.

Theory of operation. The owner takes `next`, does what it says, and gives back what came: `opened`,
`chunk` for bytes, `finished` if the answer ended in order; `refused` for another status than 200,
`broke` if the connection failed or nothing came until `deadline`.

    SNAPSHOT ──complete──▶ WATCH ──ended or broke──▶ CHECK ──same history──▶ WATCH
       ▲  ▲                  │ 410                     │ version went back, or no answer
       │  └──────────────────┴─────────────────────────┘
       └── ABSENT (404: the kind does not exist; asked for again)

A snapshot is a watch with initial events where the server knows that, else a list in pages; at the
start it may be a list in one piece (`Pace.first_as_list`). It is applied when it is complete, and
objects that are missing in it are deleted. What was known stays meanwhile. CHECK is a list of one
object: a server that was restored from an older copy of its data is at an older version than we
are, and a watch from the future would say nothing at all. Its version may have passed ours again
since; but such a server was away for a while, so if a CHECK or the beginning of a watch fails,
everything is read anew. (So it is in most cases anyway: a server that was restarted has lost its
history.)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from penstock.core.events import Event, EventType
from penstock.core.objects import Object
from penstock.sources.kubernetes.listing import Listing
from penstock.sources.kubernetes.messages import (
    Page,
    Status,
    UnreadableAnswerError,
    WatchEvent,
    read_bookmark,
    read_event,
    read_metadata,
    read_status,
)
from penstock.sources.kubernetes.requests import (
    DEFAULT_PACE,
    EVERYTHING,
    ListRequest,
    Pace,
    Pause,
    Request,
    Scope,
    WatchRequest,
    resource_of,
)
from penstock.sources.kubernetes.table import Listens, Snapshot, Table, is_newer

LONGEST_LINE = 32 << 20
"""Bytes; an object has at most about 3 MB."""
_NEVER = float("inf")
_SHORT = 5.0
"""Seconds; a watch that ends sooner without a word is a failure, or it would be asked in a loop."""


class Phase(enum.Enum):
    """Where a reflector is."""

    SNAPSHOT = "reading everything"
    WATCH = "watching"
    CHECK = "asking for the server's version"
    ABSENT = "not served"


Events = tuple[Event, ...]
_MISUNDERSTOOD = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_CHANGES = {one.value: one for one in EventType}


class Reflector:
    """One kind."""

    def __init__(
        self,
        kind: type[Object],
        random: Callable[[], float],
        pace: Pace = DEFAULT_PACE,
        scope: Scope = EVERYTHING,
        listens: Listens | None = None,
    ) -> None:
        """Know nothing yet.

        Args:
            kind: what to ask for.
            random: returns numbers in [0, 1), for jitter.
            pace: sizes and times.
            scope: which objects are meant.
            listens: see `Table`.
        """
        self.kind = kind
        self.table = Table(kind, listens)
        self.phase = Phase.SNAPSHOT
        self.synced = False
        """Whether the table once held everything, or the server does not know the kind."""
        self.trouble = ""
        """Why the last request failed, "" if it did not."""
        self.denied = False
        """Whether the server does not let us read the kind."""
        self.deadline = _NEVER
        """Monotonic time at which the present request counts as failed."""
        self.over = False
        """Whether the present answer has told its error, so that no more of it counts."""
        self.snapshots = 0
        """How many snapshots were applied."""
        self._random = random
        self._pace = pace
        self._scope = scope
        self._resource = resource_of(kind.kind)
        self._versions = kind.api_versions
        self._version_index = 0
        self._reached = ""
        """The resourceVersion up to which everything is known."""
        self._streaming = pace.stream_snapshots and not pace.first_as_list
        self._can_stream = pace.stream_snapshots
        self._paged = not pace.first_as_list
        self._pending: Snapshot = {}
        self._page: Snapshot = {}
        """Objects of the present page."""
        self._listing: Listing | None = None
        """The present answer, if it is a list."""
        self._continue = ""
        self._rest = bytearray()
        self._failures = 0
        self._asked_at = 0.0
        self._not_before = -_NEVER
        self._snapshots_paid_until = -_NEVER
        self._unknown_since = _NEVER
        self._watch_end = _NEVER
        self._bookmarked = False
        """The server sends bookmarks, on this watch or an earlier one."""
        self._heard = False
        self._open = False

    @property
    def api_version(self) -> str:
        """Return the version that is asked for."""
        return self._versions[self._version_index]

    @property
    def name(self) -> str:
        """Return resource and group, as people write it: `httproutes.gateway.networking.k8s.io`."""
        group = self.api_version.rpartition("/")[0]
        return f"{self._resource}.{group}" if group else self._resource

    def next(self, now: float) -> Pause | Request:
        """Return what to do now."""
        if now < self._not_before:
            return Pause(self._not_before - now)
        self._rest.clear()
        self._listing = None
        self._heard = self._open = self.over = False
        self._asked_at = now
        self.deadline = now + self._pace.answer
        match self.phase:
            case Phase.CHECK:
                self._listing = Listing(_pass_over)
                return ListRequest(self.api_version, self._resource, 1, scope=self._scope)
            case Phase.WATCH:
                return self._watch(self._reached, now)
            case Phase.SNAPSHOT | Phase.ABSENT:
                if self._streaming:
                    self._pending = {}
                    return self._watch("", now)
                if not self._continue:
                    self._pending = {}
                self._page = {}
                self._listing = Listing(self._look)
                limit = self._pace.page_size if self._paged else 0
                return ListRequest(
                    self.api_version, self._resource, limit, self._continue, self._scope
                )

    def opened(self) -> None:
        """Take that the answer has begun, with the status 200."""
        self._open = True

    def chunk(self, some: bytes, now: float) -> Events:
        """Take bytes of the answer; they may end anywhere."""
        if self._listing is not None:
            self._listing.chunk(some)
            longest = self._asked_at + self._pace.watch_longest
            self.deadline = min(longest, now + self._pace.answer)
            return ()
        lines = (self._rest + some).split(b"\n") if self._rest else some.split(b"\n")
        self._rest = bytearray(lines.pop())
        events: list[Event] = []
        try:
            for line in lines:
                if line and not line.isspace():
                    events += self._line(bytes(line), now)
        except UnreadableAnswerError as error:
            events += self.broke(str(error), now)
        if len(self._rest) > LONGEST_LINE:
            events += self.broke(f"a line of more than {LONGEST_LINE} bytes", now)
        self._extend_deadline(now)
        return tuple(events)

    def refused(self, status: int, body: bytes, now: float, retry_after: float = 0.0) -> Events:
        """Take an answer with another status than 200."""
        said = read_status(body)
        return self._error(
            said if said.code else Status(status, said.reason, said.message), now, retry_after
        )

    def broke(self, reason: str, now: float) -> Events:
        """Take that the connection failed, the answer made no sense, or the deadline passed."""
        if self.phase is Phase.SNAPSHOT:
            self._paged = True  # what was read of a page need not be read again
        self._fail(reason, now)
        return ()

    def finished(self, now: float) -> Events:
        """Take that the server ended the answer in order."""
        if self.over:
            return ()
        listing, self._listing = self._listing, None
        if listing is not None:
            return self._listed(listing, now)
        if self.phase is Phase.WATCH and (self._heard or now - self._asked_at > _SHORT):
            self.phase = Phase.CHECK
        else:
            self._fail("the server ended the answer early", now)
        return ()

    def _watch(self, version: str, now: float) -> WatchRequest:
        pace = self._pace
        span = pace.watch_shortest + (pace.watch_longest - pace.watch_shortest) * self._random()
        seconds = max(1, round(span))
        self._watch_end = now + seconds + pace.margin
        if version:
            self.deadline = self._end_of_silence(now)
        return WatchRequest(self.api_version, self._resource, version, seconds, self._scope)

    def _extend_deadline(self, now: float) -> None:
        if self.over:
            return
        if self.phase is Phase.WATCH:
            self.deadline = self._end_of_silence(now)
        else:
            self.deadline = min(self._watch_end, now + self._pace.answer)

    def _end_of_silence(self, now: float) -> float:
        """Return when a watch that says nothing from *now* on counts as stalled."""
        quiet = now + self._pace.quiet if self._bookmarked else _NEVER
        return min(self._watch_end, quiet)

    def _line(self, line: bytes, now: float) -> Events:
        if self.over:
            return ()
        event = read_event(line)
        if event.type == "ERROR":
            events = self._error(read_status(event.object), now)
            self.over = True
            return events
        self._heard = True
        if self.phase is Phase.WATCH:
            self._recovered()
            return self._changed(event)
        return self._collect_event(event, now)

    def _changed(self, event: WatchEvent) -> Events:
        if event.type == "BOOKMARK":
            self._bookmarked = True
            self._reach(read_bookmark(event.object).resource_version)
            return ()
        kind = _CHANGES.get(event.type)
        if kind is None:
            raise UnreadableAnswerError(f"a watch event of type {event.type[:40]}")
        events = tuple(self.table.change(kind, event.object, self.api_version))
        self._reach(read_metadata(event.object).resource_version)
        return events

    def _reach(self, version: str) -> None:
        if version and is_newer(version, self._reached):
            self._reached = version

    def _collect_event(self, event: WatchEvent, now: float) -> Events:
        if event.type == "BOOKMARK":
            bookmark = read_bookmark(event.object)
            self._bookmarked = True
            return (
                self._complete(bookmark.resource_version, now)
                if bookmark.ends_initial_events
                else ()
            )
        key, seen = self.table.look(event.object, self.api_version)
        if event.type == "DELETED":
            self._pending.pop(key, None)
        else:
            self._pending[key] = seen
        return ()

    def _listed(self, listing: Listing, now: float) -> Events:
        """Take that a list, or a page of one, is over."""
        try:
            page = listing.end()
            if self.phase is Phase.CHECK:
                return self._checked(page, now)
            return self._collect(page, now)
        except UnreadableAnswerError as error:
            return self.broke(str(error), now)

    def _look(self, raw: msgspec.Raw) -> None:
        """Take an object of a page: it counts when the page is over."""
        key, seen = self.table.look(raw, self.api_version)
        self._page[key] = seen

    def _collect(self, page: Page, now: float) -> Events:
        came, self._page = self._page, {}
        self._pending |= came
        self._failures = 0
        self._continue = page.metadata.continue_
        if self._continue:
            return ()
        if not page.metadata.resource_version:
            raise UnreadableAnswerError("a list without resourceVersion")
        return self._complete(page.metadata.resource_version, now)

    def _complete(self, version: str, now: float) -> Events:
        pending, self._pending = self._pending, {}
        self._reached = version
        self._continue, self._paged, self._streaming = "", True, self._can_stream
        self._recovered()
        self._unknown_since = _NEVER
        apart = self._pace.between_snapshots * (0.75 + self._random() / 2)
        self._snapshots_paid_until = max(now, self._snapshots_paid_until) + apart
        self.snapshots += 1
        self.phase, self.synced = Phase.WATCH, True
        return self.table.replace(pending)

    def _checked(self, page: Page, now: float) -> Events:
        self._recovered()
        present = page.metadata.resource_version
        if present and is_newer(self._reached, present):
            self._start_over(now)
        else:
            self.phase = Phase.WATCH
        return ()

    def _start_over(self, now: float) -> None:
        """Take a snapshot, though not at once if there were many."""
        self._pending, self._continue = {}, ""
        self.phase = Phase.SNAPSHOT
        credit = self._pace.between_snapshots * self._pace.snapshots_in_a_row
        soon = now + self._pace.back_off.pause(1, self._random())
        self._not_before = max(soon, self._snapshots_paid_until - credit)

    def _error(self, said: Status, now: float, retry_after: float = 0.0) -> Events:
        text = f"{said.code} {said.reason}: {said.message}".strip(" :")
        if said.code == HTTPStatus.GONE or said.reason == "Expired":
            self._expired(text, now)
        elif said.code == HTTPStatus.NOT_FOUND:
            return self._unknown(text, now)
        elif said.code in _MISUNDERSTOOD and self._streaming and self.phase is not Phase.WATCH:
            self._streaming = self._can_stream = False
        else:
            self._fail(text, now)
            self.denied = said.code in _DENIED
            pause = max(retry_after, self._pace.denied if self.denied else 0.0)
            self._not_before = max(self._not_before, now + pause)
        return ()

    def _expired(self, text: str, now: float) -> None:
        if self.phase is not Phase.SNAPSHOT:
            self._start_over(now)
            return
        # The pages were too slow for the server's history: ask for all of them at once.
        self._paged = not self._continue
        self._fail(text, now)
        self._pending, self._continue = {}, ""

    def _recovered(self) -> None:
        self._failures, self.trouble, self.denied = 0, "", False

    def _fail(self, reason: str, now: float) -> None:
        self.trouble, self.denied = reason, False
        self._failures += 1
        self._not_before = now + self._pace.back_off.pause(self._failures, self._random())
        self.over = True
        if self.phase is Phase.WATCH and self._open:
            self.phase = Phase.CHECK
        elif self.phase in (Phase.WATCH, Phase.CHECK):
            self._start_over(self._not_before)
        elif self._streaming:
            self._streaming, self._pending = False, {}

    def _unknown(self, text: str, now: float) -> Events:
        """Take that the server does not know the kind in the present version."""
        if self._version_index + 1 < len(self._versions):
            self._version_index += 1
            self._pending, self._continue = {}, ""
            self.phase = self.phase if self.phase is Phase.ABSENT else Phase.SNAPSHOT
            self.over = True
            return ()
        self._version_index = 0
        self._unknown_since = min(self._unknown_since, now)
        if len(self.table) and now < self._unknown_since + self._pace.vanished:
            self._fail(text, now)
            self.phase = Phase.SNAPSHOT
            return ()
        self.phase, self.synced, self.trouble = Phase.ABSENT, True, text
        self._pending, self._continue, self._streaming = {}, "", self._can_stream
        self._not_before = now + self._pace.absent * (1 + self._random())
        return self.table.replace({})


def _pass_over(_: msgspec.Raw) -> None:
    """Take an object that nobody needs."""
