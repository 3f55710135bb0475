"""What one client wants of one type, what it has, and what is under way to it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from penstock.xds.checkpoint import MANY, Held
from penstock.xds.resource import Resource
from penstock.xds.verdict import Rejection


class Sent(msgspec.Struct):
    """One response that the client has not answered."""

    nonce: str
    upserts: tuple[Resource, ...]
    removals: tuple[str, ...]
    alone: bool
    """Holds one resource, so that a NACK names it."""
    overdue: bool = False
    """Unanswered for so long that it no longer holds up others."""


class Subscription:
    """The state of one type on one stream; `penstock.xds.delta` has the rules."""

    def __init__(self, type_url: str, many: int = MANY) -> None:
        """Start with nothing asked for and nothing known; see `Held` for *many*."""
        self.type_url = type_url
        self.wildcard = False
        self.names: set[str] = set()
        self.answer_owed = False
        """The client waits for a first response, though there may be nothing to put into it."""
        self.anew = False
        """The client may have forgotten everything: it is sent again, in one response."""

        self.acked = Held(many)
        """Name to the version that the client has."""
        self.rejected: dict[str, Rejection] = {}
        self.in_flight: dict[str, Sent] = {}
        self.flying: dict[str, int] = {}
        """How many responses in flight, not overdue, hold a name."""
        self.unanswered: dict[str, str] = {}
        """Name to the version in an overdue response, "" for its removal."""

        self.dirty: OrderedDict[str, None] = OrderedDict()
        """Names to look at again, oldest first. All others are as they should be, or under way,
        or in one of the following."""
        self.waiting: dict[str, float] = {}
        """Names that wait for what they need, and until when."""
        self.removals: dict[str, None] = {}
        """Names that the client has, or is about to have, and should not have."""
        self.absent: dict[str, None] = {}
        """Names that the client asked for and that do not exist."""

        self.forced: set[str] = set()
        """Names to send even if the client has the version."""
        self.suspects: dict[str, set[str]] = {}
        """Names that shared a refused response, each with the versions that the client may have
        taken of it; such a name is sent alone until a version of it is accepted."""
        self.retracted: dict[str, None] = {}
        """Names to take back before they are sent again, though they are wanted."""
        self.impatient: set[str] = set()
        """Names that have waited long enough."""

    def wants(self, name: str) -> bool:
        """Return whether the client asked for *name*."""
        return self.wildcard or name in self.names

    def doubtful(self, name: str) -> bool:
        """Return whether the client may have another version than the one in `acked`."""
        return bool(self.suspects.get(name)) or name in self.unanswered

    def may_have(self, name: str) -> bool:
        """Return whether the client has *name*, or may get it by what is under way."""
        return name in self.acked or name in self.flying or self.doubtful(name)

    @property
    def untold(self) -> bool:
        """Return whether the client has nothing of the type, and nothing is under way to it."""
        return not (self.acked or self.rejected or self.in_flight or self.suspects)

    @property
    def quiet(self) -> bool:
        """Return whether there is nothing to look at, removals apart."""
        return not (self.dirty or self.answer_owed or self.absent or self.retracted)

    def touch(self, name: str) -> None:
        """Look at *name* again."""
        self.dirty[name] = None

    def leave(self, name: str, *, leaving: bool) -> None:
        """Note whether the client should lose *name*."""
        if leaving:
            self.removals[name] = None
        else:
            self.removals.pop(name, None)

    def launched(self, sent: Sent) -> None:
        """Note a response under way."""
        self.in_flight[sent.nonce] = sent
        self.answer_owed = False
        for name, _ in _versions(sent):
            self.flying[name] = self.flying.get(name, 0) + 1
        self.anew = self.anew and not sent.upserts
        for resource in sent.upserts:
            self.forced.discard(resource.name)
            self.impatient.discard(resource.name)

    def landed(self, nonce: str) -> Sent | None:
        """Take the response that a client answered; None if it is not one of this stream."""
        sent = self.in_flight.pop(nonce, None)
        if sent is None:
            return None
        if not sent.overdue:
            self._no_longer_flying(sent)
        for name, version in _versions(sent):
            if self.unanswered.get(name) == version:
                del self.unanswered[name]
            self.touch(name)
        return sent

    def give_up(self, sent: Sent) -> None:
        """Let an unanswered response no longer hold up others."""
        sent.overdue = True
        self._no_longer_flying(sent)
        for name, version in _versions(sent):
            self.unanswered[name] = version
            self.touch(name)

    def forget(self, name: str) -> None:
        """Drop what is known of a name that the client no longer asks for."""
        self.impatient.discard(name)
        self.acked.pop(name, None)
        for names in (
            self.rejected,
            self.suspects,
            self.waiting,
            self.removals,
            self.absent,
            self.retracted,
        ):
            names.pop(name, None)

    def room(self, *, alone: bool, window: int) -> bool:
        """Return whether one more response may be sent.

        One at a time, except that responses which hold one resource may be *window* at a time.
        """
        flights = [sent for sent in self.in_flight.values() if not sent.overdue]
        if not alone:
            return not flights
        return len(flights) < window and all(sent.alone for sent in flights)

    def sending(self) -> bool:
        """Return whether a version is still to be looked at, or sent and not answered."""
        on_the_way = (s for s in self.in_flight.values() if not s.overdue)
        return bool(self.dirty) or any(sent.upserts for sent in on_the_way)

    def owes(self) -> bool:
        """Return whether a version is still to be sent, or under way, or waits for another one."""
        return not self.quiet or bool(self.waiting) or self.sending()

    def removing(self) -> bool:
        """Return whether a removal is still to be sent or answered."""
        on_the_way = (s for s in self.in_flight.values() if not s.overdue)
        return bool(self.removals) or any(sent.removals for sent in on_the_way)

    def unsettled(self) -> frozenset[str]:
        """Return the names of which the client's last word is not known."""
        return frozenset().union(
            self.dirty, self.waiting, self.removals, self.absent, self.retracted,
            *(dict(_versions(sent)) for sent in self.in_flight.values()),
        )  # fmt: skip

    def _no_longer_flying(self, sent: Sent) -> None:
        for name, _ in _versions(sent):
            self.flying[name] -= 1
            if not self.flying[name]:
                del self.flying[name]


def _versions(sent: Sent) -> Iterator[tuple[str, str]]:
    for resource in sent.upserts:
        yield resource.name, resource.version
    for name in sent.removals:
        yield name, ""
