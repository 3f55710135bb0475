"""One client's stream on the server: the state machine, fed and drained by two tasks.

The reader takes requests as they come. The writer asks for responses only when the last one was
taken by the transport, so a slow client is behind by what gRPC buffers and no more. Changes of the
snapshot are queued as they are and marked when the writer runs, so that one change told to a
thousand streams is a thousand appends; between responses the writer lets other tasks run, or new
streams would starve behind busy ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from penstock.ads.incoming import Incoming
from penstock.meta.clock import Clock
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds.delta import DeltaStream
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Cleared, Rejection, Verdict

_TURN = 16
"""Responses that one turn of the writer makes."""
_BACKLOG = 256
"""Changes that wait for the writer of a client that does not read."""

Write = Callable[[bytes], Awaitable[None]]
Requests: TypeAlias = Incoming[discovery_pb2.DeltaDiscoveryRequest]


class Hooks(Protocol):
    """What an owner of a server may want to know; called on the event loop, must not block."""

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Take a new stream of a node, for `acked`, `pending` and `rejected`."""
        ...

    def on_ack(self, node: str, accepted: Accepted) -> None:
        """Take what a node accepted."""
        ...

    def on_reject(self, node: str, rejection: Rejection) -> None:
        """Take what a node refused."""
        ...

    def on_clear(self, node: str, cleared: Cleared) -> None:
        """Take that a refusal is of no interest any more."""
        ...

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """Take that a stream has ended."""
        ...


class NoHooks:
    """Wants to know nothing; a base for those that want to know something."""

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """See Hooks."""

    def on_ack(self, node: str, accepted: Accepted) -> None:
        """See Hooks."""

    def on_reject(self, node: str, rejection: Rejection) -> None:
        """See Hooks."""

    def on_clear(self, node: str, cleared: Cleared) -> None:
        """See Hooks."""

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """See Hooks."""


class Connection:
    """One stream between its first request and its end."""

    def __init__(self, node: str, stream: DeltaStream, clock: Clock, hooks: Hooks) -> None:
        """Serve *stream* to *node*."""
        self.node = node
        self.stream = stream
        self.settled = asyncio.Event()
        """Set when the client has for the first time answered all that there was to send."""
        self._clock = clock
        self._hooks = hooks
        self._changes: list[Delta] = []
        self._awake = asyncio.Event()

    def changed(self, delta: Delta) -> None:
        """Take a change of the snapshot."""
        self._changes.append(delta)
        if len(self._changes) > _BACKLOG:
            self._mark()
        self._awake.set()

    async def serve(self, requests: Requests, write: Write) -> None:
        """Run the stream until the client ends it.

        Raises:
            google.protobuf.message.DecodeError: the client sent something else than requests.
        """
        self._take(await requests.next())
        writer = asyncio.create_task(self._write(write))
        reader = asyncio.create_task(self._read(requests))
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, writer):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _read(self, requests: Requests) -> None:
        while self._take(await requests.next()):
            pass

    def _take(self, request: discovery_pb2.DeltaDiscoveryRequest | None) -> bool:
        """Take a request; return False if there is none any more."""
        if request is None:
            return False
        self._mark()
        self.stream.on_request(request, self._clock.monotonic())
        for verdict in self.stream.verdicts():
            self._tell(verdict)
        self._awake.set()
        return True

    async def _write(self, write: Write) -> None:
        while True:
            self._awake.clear()
            self._mark()
            responses = self.stream.responses(self._clock.monotonic(), limit=_TURN)
            for verdict in self.stream.verdicts():
                self._tell(verdict)
            for response in responses:
                await write(response.payload)
            if responses:
                await asyncio.sleep(0)
            else:
                if not (self.settled.is_set() or self.stream.pending):
                    self.settled.set()
                await self._rest()

    async def _rest(self) -> None:
        """Return when there may be something to send."""
        due = self.stream.next_time()
        timeout = None if due is None else max(0.0, due - self._clock.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._awake.wait()

    def _mark(self) -> None:
        changes, self._changes = self._changes, []
        for delta in changes:
            self.stream.on_change(delta)

    def _tell(self, verdict: Verdict) -> None:
        if isinstance(verdict, Accepted):
            self._hooks.on_ack(self.node, verdict)
        elif isinstance(verdict, Rejection):
            self._hooks.on_reject(self.node, verdict)
        else:
            self._hooks.on_clear(self.node, verdict)
