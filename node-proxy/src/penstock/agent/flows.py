"""Flows: one record for each request and each connection that the kernel refused.

What arrives is kept as it came and joined with identities only when somebody reads it, so that
a node that nobody watches pays almost nothing for its log.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable

import msgspec

from penstock.ir.policy import Direction


class FlowVerdict(enum.Enum):
    """What became of it."""

    FORWARDED = "FORWARDED"
    DENIED = "DENIED"
    ERROR = "ERROR"
    """It was allowed and failed: no route, no endpoint, reset."""
    REDIRECTED = "REDIRECTED"
    """The kernel led the connection to Envoy, which judges each request."""


class Peer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One end of a flow."""

    identity: int
    namespace: str = ""
    pod: str = ""
    address: str = ""
    port: int = 0
    labels: dict[str, str] = {}
    service: str = ""
    """"namespace/name" of the Service that was asked for, at the destination."""


class Flow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request, or one connection."""

    time: float
    """Seconds since 1970."""
    node: str
    direction: Direction
    """As the pod sees it whose listener or socket it was."""
    verdict: FlowVerdict
    source: Peer
    destination: Peer
    protocol: str
    """"http/1.1", "http/2", "tcp", "udp"."""
    method: str = ""
    host: str = ""
    path: str = ""
    """Values of the query are replaced: they may be secrets."""
    status: int = 0
    duration: float = 0.0
    """Seconds."""
    reason: str = ""
    """Envoy's response code details, or why the kernel refused."""
    policies: tuple[str, ...] = ()
    """The objects and JSON paths that decided, as `str(Origin)`."""


Record = Callable[[], Flow]
"""What arrived, ready to be joined into a Flow."""


class FlowFollower:
    """One reader of flows as they come; what it does not read in time is dropped and counted."""

    def __init__(self, depth: int) -> None:
        """Hold at most *depth* unread records."""
        self._records: deque[Record] = deque(maxlen=depth)
        self._arrived = asyncio.Event()
        self.dropped = 0

    def put(self, record: Record) -> None:
        """Give the reader one more record; the oldest unread one makes room."""
        if len(self._records) == self._records.maxlen:
            self.dropped += 1
        self._records.append(record)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[Flow]:
        """Yield flows without end."""
        while True:
            await self._arrived.wait()
            while self._records:
                yield self._records.popleft()()
            self._arrived.clear()


class FlowLog:
    """The last flows of the node and those who follow them."""

    def __init__(self, depth: int = 4096) -> None:
        """Keep the last *depth* records."""
        self._records: deque[Record] = deque(maxlen=depth)
        self._followers: set[FlowFollower] = set()
        self.total = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Return how many records followers were too slow for."""
        return self._dropped + sum(follower.dropped for follower in self._followers)

    def append(self, record: Record) -> None:
        """Take one more record."""
        self.total += 1
        self._records.append(record)
        for follower in self._followers:
            follower.put(record)

    def last(self, count: int) -> list[Flow]:
        """Return the last *count* flows, oldest first."""
        start = max(0, len(self._records) - count)
        return [self._records[at]() for at in range(start, len(self._records))]

    def follow(self, depth: int = 4096) -> FlowFollower:
        """Return a reader of what comes from now on; give it back with `leave`."""
        follower = FlowFollower(depth)
        self._followers.add(follower)
        return follower

    def leave(self, follower: FlowFollower) -> None:
        """Stop to feed a reader."""
        self._followers.discard(follower)
        self._dropped += follower.dropped
