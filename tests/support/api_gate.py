"""A gate in front of an API server, which fails in whatever way a test wants.

Clients speak TLS to it as to the server itself; it passes on who they are (their tokens), what
they ask and what is answered. It runs in a thread of its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

Rewrite = Callable[[list[bytes]], list[bytes]]
"""Takes the whole lines of a piece of a watch and returns those to pass on."""
_BODY_BYTES = 16 << 20
_HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "upgrade"})
_NOT_COPIED = _HOP_BY_HOP | {"content-length", "content-encoding"}


def unchanged(lines: list[bytes]) -> list[bytes]:
    return lines


def repeated_and_reversed(lines: list[bytes]) -> list[bytes]:
    return [line for line in reversed(lines) for _ in range(2)]


class ApiGate:
    """Serve on *listening* what the server at *upstream* answers."""

    def __init__(
        self,
        listening: socket.socket,
        upstream: str,
        *,
        authority: Path,
        certificate: Path,
        key: Path,
    ) -> None:
        self.refuse: Callable[[str, str], int] = lambda _method, _target: 0
        """Returns the status to answer a request with, 0 to pass it on."""
        self.rewrite: Rewrite = unchanged
        self.asked: list[tuple[str, str]] = []
        """Method and target of every request."""
        self._listening = listening
        self._upstream = upstream
        self._client_tls = ssl.create_default_context(cafile=str(authority))
        self._client_tls.check_hostname = False
        self._server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_tls.load_cert_chain(certificate, key)
        self._streams: set[asyncio.Task[None]] = set()
        self._stalled: set[asyncio.Task[None]] = set()
        self._open = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="api-gate", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._open.wait(30):
            raise TimeoutError("the gate in front of the API server does not open")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    def stall(self) -> None:
        """Pass on nothing more of the present answers, and keep their connections open."""
        self._in_loop(lambda: self._stalled.update(self._streams))

    def cut(self) -> None:
        """Break the connections of the present answers."""
        self._in_loop(lambda: [stream.cancel() for stream in list(self._streams)])

    def _in_loop(self, call: Callable[[], object]) -> None:
        async def work() -> None:
            call()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=self._client_tls, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._session:
            await runner.setup()
            try:
                site = web.SockSite(runner, self._listening, ssl_context=self._server_tls)
                await site.start()
                self._open.set()
                await self._ended.wait()
            finally:
                for stream in list(self._streams):
                    stream.cancel()
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs))
        if status := self.refuse(request.method, request.path_qs):
            return web.Response(status=status, text="refused by the gate")
        response = web.StreamResponse()
        stream = asyncio.ensure_future(self._pass_on(request, response))
        self._streams.add(stream)
        try:
            await stream
        except (asyncio.CancelledError, aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            stream.cancel()
            self._streams.discard(stream)
            self._stalled.discard(stream)
        return response

    async def _pass_on(self, request: web.Request, response: web.StreamResponse) -> None:
        url = URL(self._upstream + request.path_qs, encoded=True)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with self._session.request(
            request.method, url, headers=headers, data=body or None
        ) as answer:
            response.set_status(answer.status, answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in _NOT_COPIED:
                    response.headers[name] = value
            await response.prepare(request)
            watched = "watch=" in request.path_qs
            async for piece in self._pieces(answer.content, watched=watched):
                if asyncio.current_task() in self._stalled:
                    await asyncio.Event().wait()
                await response.write(piece)

    async def _pieces(
        self, content: aiohttp.StreamReader, *, watched: bool
    ) -> AsyncIterator[bytes]:
        """Yield what is passed on; a watch in whole lines, as they are after the rewrite."""
        rest = b""
        async for some in content.iter_any():
            if not watched:
                yield some
                continue
            *lines, rest = (rest + some).split(b"\n")
            yield b"".join(line + b"\n" for line in self.rewrite(lines))
        yield rest
