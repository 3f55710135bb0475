"""A network between a client and an API server that behaves as badly as a test wants.

The client speaks plain HTTP to it; what it passes on comes from the real server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import aiohttp
from aiohttp import web
from yarl import URL

from penstock.sources.kubernetes.access import Access, Credentials
from support.fake_clock import FakeClock

Rewrite = Callable[[list[bytes]], list[bytes]]
"""Takes the whole lines of a piece of a watch and returns those to pass on."""


def unchanged(lines: list[bytes]) -> list[bytes]:
    return lines


def repeated_and_reversed(lines: list[bytes]) -> list[bytes]:
    return [line for line in reversed(lines) for _ in range(2)]


class UnrulyProxy:
    def __init__(self, upstream: Access, port: int) -> None:
        self.access = Access(server=f"http://127.0.0.1:{port}")
        self.targets: list[str] = []
        """Path and query of every request."""
        self.refuse: Callable[[str], int] = lambda _target: 0
        """Returns the status to answer a target with, 0 to pass the request on."""
        self.before: Callable[[str], Awaitable[None]] | None = None
        """Is awaited before a request is passed on."""
        self.rewrite: Rewrite = unchanged
        self._upstream = upstream
        self._credentials = Credentials(upstream, FakeClock(), {})
        self._streams: set[asyncio.Task[None]] = set()
        self._stalled: set[asyncio.Task[None]] = set()

    @property
    def lists(self) -> int:
        """How many lists, or pages of one, were asked for; not those of one object."""
        lists = [one for one in self.targets if "watch=" not in one]
        return len([one for one in lists if "limit=1&" not in f"{one}&"])

    def stall(self) -> None:
        """Pass on nothing more of the present answers, and keep their connections open."""
        self._stalled |= self._streams

    def cut(self) -> None:
        """Break the connections of the present answers."""
        for stream in list(self._streams):
            stream.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        target = request.path_qs
        self.targets.append(target)
        status = self.refuse(target)
        if status:
            return web.Response(status=status, text="unruly")
        if self.before is not None:
            await self.before(target)
        response = web.StreamResponse()
        stream = asyncio.ensure_future(self._pass_on(request, response, target))
        self._streams.add(stream)
        try:
            await stream
        except (asyncio.CancelledError, aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            stream.cancel()
            self._streams.discard(stream)
        return response

    async def _pass_on(
        self, request: web.Request, response: web.StreamResponse, target: str
    ) -> None:
        url = URL(self._upstream.server + target, encoded=True)
        context = await self._credentials.context()
        assert context is not None
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
            response.set_status(answer.status)
            await response.prepare(request)
            rest = b""
            async for some in answer.content.iter_any():
                if asyncio.current_task() in self._stalled:
                    await asyncio.Event().wait()
                *lines, rest = (rest + some).split(b"\n")
                kept = self.rewrite(lines) if "watch=" in target else lines
                await response.write(b"".join(line + b"\n" for line in kept))
            await response.write(rest)


@contextlib.asynccontextmanager
async def unruly_proxy(upstream: Access) -> AsyncGenerator[UnrulyProxy]:
    """Run a proxy in front of *upstream*."""
    holder: list[UnrulyProxy] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        return await holder[0].handle(request)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        holder.append(UnrulyProxy(upstream, runner.addresses[0][1]))
        yield holder[0]
    finally:
        if holder:
            holder[0].cut()
        await runner.cleanup()
        for _ in range(10):  # what was cut or aborted is closed in the next rounds of the loop
            await asyncio.sleep(0)
