"""Who writes: one holder of a Lease at a time, whatever the clocks of the machines say.

Nobody compares clocks of two machines. A candidate takes the Lease over when it has not changed for
`duration` on the candidate's own clock since the candidate saw it. The holder counts `deadline`,
which is shorter, from before it sent the request that renewed the Lease, which is before anybody
could see it; so it has stopped before another one may begin. A write that is still under way then
meets a newer resourceVersion.
Source: Kubernetes, coordination.k8s.io/v1 Lease; client-go, leaderelection.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec

API_VERSION = "coordination.k8s.io/v1"
Json = dict[str, Any]
_SHORT = 0.1
"""Seconds after which to look again when the Lease is not what it was."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    duration: float = 15.0
    """How long a Lease must stand still before another one takes it."""
    deadline: float = 10.0
    """How long after its last renewal a holder writes; shorter than `duration` by more than clocks
    can drift apart meanwhile, and by what a request may take."""
    renew: float = 3.0
    """Between renewals, and between looks at another one's Lease; up to a fifth more, at random."""
    answer: float = 4.0
    """Longest wait for an answer about the Lease."""


class Ask(msgspec.Struct, frozen=True):
    """A request about the Lease."""

    method: str
    """GET, POST or PUT."""
    body: Json | None = None


class Wait(msgspec.Struct, frozen=True):
    """Nothing to ask for so many seconds."""

    seconds: float


class Election:
    """One candidate. Times are monotonic seconds; `wall` is seconds since 1970, for people only."""

    def __init__(
        self, identity: str, namespace: str, name: str, terms: Terms, random: Callable[[], float]
    ) -> None:
        """Hold nothing.

        Args:
            identity: of this process; no other one ever has the same.
            namespace: of the Lease.
            name: of the Lease.
            terms: times.
            random: returns numbers in [0, 1), for jitter.
        """
        self.identity = identity
        self.holder = ""
        """Who holds the Lease as far as we know, "" for nobody."""
        self.term = 0
        """leaseTransitions: grows when the holder changes."""
        self._metadata: Json = {"namespace": namespace, "name": name}
        self._terms = terms
        self._random = random
        self._lease: Json | None = None
        """As it was last seen; None if there is none or we have to look."""
        self._known = False
        """Whether `_lease` says how it is, also if that is None."""
        self._record: Json = {}
        self._still_since = 0.0
        """When what the Lease says was first seen."""
        self._sent_at = 0.0
        self._until = float("-inf")
        self._next_at = float("-inf")

    def leads(self, now: float) -> bool:
        """Return whether we may write now."""
        return now < self._until

    @property
    def until(self) -> float:
        """Return until when we may write."""
        return self._until

    def next(self, now: float, wall: float) -> Ask | Wait:
        """Return what to ask the server; its end must be told by `answered` or `failed`."""
        if now < self._next_at:
            return Wait(self._next_at - now)
        self._sent_at = now
        if not self._known:
            return Ask("GET")
        if self._lease is None:
            return Ask("POST", self._claim({}, wall))
        if self.holder == self.identity or self._is_free(now):
            return Ask("PUT", self._claim(self._lease, wall))
        return Ask("GET")

    def release(self, now: float, wall: float) -> Ask | None:
        """Stop writing; return the request that lets another one begin at once."""
        leading, self._until = self.leads(now), float("-inf")
        if not leading or self._lease is None:
            return None
        body = self._claim(self._lease, wall)
        body["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        return Ask("PUT", body)

    def answered(self, asked: Ask, status: int, body: Json, now: float) -> None:
        """Take the server's answer."""
        match status:
            case HTTPStatus.OK | HTTPStatus.CREATED:
                self._see(body, now)
                if asked.method != "GET":
                    self._until = self._sent_at + self._terms.deadline
                self._rest(now, after=self._pause(now))
            case HTTPStatus.NOT_FOUND:
                # If somebody deleted it, its holder does not know yet.
                others = self.holder not in ("", self.identity)
                after = max(0.0, self._free_at() - now) if others else _SHORT
                self._lease, self._known = None, asked.method == "GET"
                self.holder, self._until = "", float("-inf")
                self._rest(now, after=after)
            case HTTPStatus.CONFLICT:
                # Somebody else wrote it: what we hold ends unless the Lease still says us.
                self._known = False
                self._until = float("-inf")
                self._rest(now, after=_SHORT)
            case _:
                self.failed(now)

    def failed(self, now: float) -> None:
        """Take that there was no answer. What we hold stays until its deadline."""
        self._known = False
        self._rest(now, after=self._terms.renew)

    def _see(self, lease: Json, now: float) -> None:
        self._lease, self._known = lease, True
        record = lease.get("spec") or {}
        if record != self._record:
            self._record, self._still_since = record, now
        self.holder = record.get("holderIdentity") or ""
        self.term = record.get("leaseTransitions") or 0

    def _is_free(self, now: float) -> bool:
        return not self.holder or now >= self._free_at()

    def _free_at(self) -> float:
        # Another one's Lease may be a longer one than ours.
        said = float(self._record.get("leaseDurationSeconds") or 0)
        return self._still_since + max(self._terms.duration, said)

    def _pause(self, now: float) -> float:
        if self.holder == self.identity:
            # After a look, the Lease that is still ours is renewed at once.
            return self._terms.renew if self.leads(now) else 0.0
        if not self.holder:
            return 0.0
        return min(self._terms.renew, max(self._free_at() - now, _SHORT))

    def _rest(self, now: float, *, after: float) -> None:
        self._next_at = now + after * (1 + self._random() / 5)

    def _claim(self, lease: Json, wall: float) -> Json:
        """Return *lease* with us as its holder."""
        spec = dict(lease.get("spec") or {})
        time = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if spec.get("holderIdentity") != self.identity:
            spec["acquireTime"] = time
            spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + (1 if lease else 0)
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._terms.duration)),
            "renewTime": time,
        }
        metadata = lease.get("metadata") or self._metadata
        return {
            "apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec
        }  # fmt: skip
