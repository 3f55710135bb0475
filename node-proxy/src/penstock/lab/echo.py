"""The built-in server of the lab: answers every request with what it saw, as JSON.

HTTP/1.1 with keep-alive and HTTP/2 without TLS ("prior knowledge") on one port. Paths that begin
with /status/<code> answer with that status, with /delay/<ms> after that time.

Environment: PORT (default 8080, several with commas), VERSION, SERVICE, POD_NAME, POD_NAMESPACE.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping

from typing_extensions import override

from penstock.lab.echo_http1 import Http1
from penstock.lab.echo_http2 import PREFACE, Http2
from penstock.lab.echo_messages import Codec, Request, Response, Whoami, respond
from penstock.runtime.stop import stop_signal

_DRAIN_SECONDS = 1.0
_END_SECONDS = 10.0


class Server:
    """All connections of one process."""

    def __init__(self, me: Whoami) -> None:
        """Answer as *me*."""
        self.me = me
        self.draining = False
        self.connections: set[Connection] = set()

    async def drain(self) -> None:
        """Return when clients had the time to leave and no request is open."""
        self.draining = True
        await asyncio.sleep(_DRAIN_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while self.connections:
                    for connection in list(self.connections):
                        connection.close_if_idle()
                    await asyncio.sleep(0.02)


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        """Belong to *server*."""
        self._server = server
        self._codec: Codec | None = None
        self._first = b""
        self._open = 0
        self._remote = ""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  TCP gives this kind
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        self._remote = str(peer[0])
        self._server.connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None

    @override
    def data_received(self, data: bytes) -> None:
        if self._codec is None:
            self._first += data
            if len(self._first) < len(PREFACE) and PREFACE.startswith(self._first):
                return
            self._codec = Http2() if self._first.startswith(PREFACE) else Http1()
            data, self._first = self._first, b""
        self._feed(self._codec, data)

    def close_if_idle(self) -> None:
        """Close the connection unless a request is being answered."""
        if not self._open and self._transport is not None:
            self._transport.close()

    def _feed(self, codec: Codec, data: bytes) -> None:
        try:
            requests = codec.receive(data)
        except ValueError:
            self._flush(codec)
            if self._transport is not None:
                self._transport.close()
            return
        for number, request in requests:
            self._answer(codec, number, request)
        self._flush(codec)

    def _answer(self, codec: Codec, number: int, request: Request) -> None:
        response = respond(request, self._server.me, self._remote)
        if not response.delay:
            codec.send(number, response, last=self._server.draining)
            return
        self._open += 1
        loop = asyncio.get_running_loop()
        loop.call_later(response.delay, self._answer_late, codec, number, response)

    def _answer_late(self, codec: Codec, number: int, response: Response) -> None:
        self._open -= 1
        if self._transport is not None:
            codec.send(number, response, last=self._server.draining)
            self._flush(codec)

    def _flush(self, codec: Codec) -> None:
        if self._transport is None:
            return
        output = codec.take_output()
        if output:
            self._transport.write(output)
        if codec.closing:
            self._transport.close()


async def serve(env: Mapping[str, str], stop: asyncio.Event) -> None:
    """Answer on the ports of PORT, both address families, until *stop* is set.

    Raises:
        OSError: a port cannot be bound.
    """
    server = Server(Whoami.from_environment(env))
    loop = asyncio.get_running_loop()
    listeners = [
        await loop.create_server(
            lambda: Connection(server),
            host=("0.0.0.0", "::"),  # noqa: S104 - all addresses are meant
            port=int(port),
            backlog=1024,
        )
        for port in env.get("PORT", "8080").split(",")
    ]
    try:
        await stop.wait()
    finally:
        for listener in listeners:
            listener.close()
    await server.drain()


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    await serve(os.environ, stop_signal())


if __name__ == "__main__":
    asyncio.run(main())
