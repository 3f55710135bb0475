"""A gate in front of an API server, which fails in whatever way a test wants.

Clients speak TLS to it as to the server itself; it passes on who they are (their tokens), what
they ask and what is answered. It is a process of its own, which reads commands, one on a line, and
answers each with the number of requests until now.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

_BODY_BYTES = 16 << 20
_HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "upgrade"})
_NOT_COPIED = _HOP_BY_HOP | {"content-length", "content-encoding"}


class Refused(enum.Enum):
    """Which requests are answered with 500."""

    NONE = "none"
    READS = "reads"
    WATCHES = "watches"


class ApiGate:
    """A gate on *listening* before the server at *upstream*, as a test commands it."""

    def __init__(
        self,
        listening: socket.socket,
        upstream: str,
        *,
        authority: Path,
        certificate: Path,
        key: Path,
    ) -> None:
        fd = listening.fileno()
        words = (str(fd), upstream, str(authority), str(certificate), str(key))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, *words],
            pass_fds=[fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.asked()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def asked(self) -> int:
        """Return how many requests came."""
        return self._command("asked")

    def refuse(self, which: Refused) -> None:
        """Answer *which* with 500 from now on."""
        self._command(f"refuse {which.value}")

    def disorder(self, *, on: bool) -> None:
        """Pass on each event of a watch twice, and those that come together in reverse order."""
        self._command(f"disorder {int(on)}")

    def stall(self) -> None:
        """Pass on nothing more of the present answers, and keep their connections open."""
        self._command("stall")

    def cut(self) -> None:
        """Break the connections of the present answers."""
        self._command("cut")

    def _command(self, line: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the gate in front of the API server has ended: {self._process.poll()}"
        return int(answer)


class _Gate:
    """The process."""

    def __init__(self, upstream: str, authority: str) -> None:
        self._upstream = upstream
        self._tls = ssl.create_default_context(cafile=authority)
        self._tls.check_hostname = False
        self._refused = Refused.NONE
        self._disorder = False
        self._asked = 0
        self._streams: set[asyncio.Task[None]] = set()
        self._stalled: set[asyncio.Task[None]] = set()

    async def run(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        app = web.Application(client_max_size=_BODY_BYTES)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            await runner.setup()
            await web.SockSite(runner, listening, ssl_context=tls).start()
            async for line in _lines():
                self._obey(*line.split())
                sys.stdout.write(f"{self._asked}\n")
                sys.stdout.flush()

    def _obey(self, command: str, argument: str = "") -> None:
        does: dict[str, Callable[[], object]] = {
            "asked": lambda: None,
            "refuse": lambda: setattr(self, "_refused", Refused(argument)),
            "disorder": lambda: setattr(self, "_disorder", argument == "1"),
            "stall": lambda: self._stalled.update(self._streams),
            "cut": lambda: [stream.cancel() for stream in list(self._streams)],
        }
        does[command]()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._asked += 1
        if self._refuses(request):
            return web.Response(status=500, text="refused by the gate")
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

    def _refuses(self, request: web.Request) -> bool:
        match self._refused:
            case Refused.NONE:
                return False
            case Refused.READS:
                return request.method == "GET"
            case Refused.WATCHES:
                return "watch=" in request.path_qs

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
        """Yield what is passed on; a watch in whole lines."""
        rest = b""
        async for some in content.iter_any():
            if not watched:
                yield some
                continue
            *lines, rest = (rest + some).split(b"\n")
            if self._disorder:
                lines = [line for line in reversed(lines) for _ in range(2)]
            yield b"".join(line + b"\n" for line in lines)
        yield rest


async def _lines() -> AsyncIterator[str]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode()


if __name__ == "__main__":
    number, server, trusted, certificate_file, key_file = sys.argv[1:]
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate_file, key_file)
    asyncio.run(_Gate(server, trusted).run(socket.socket(fileno=int(number)), server_tls))
