"""An application for real requests: it says who it is and what it saw."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web

from support.raw_http import Answer

Place = tuple[str, int]
"""Address and port."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OWN_HEADERS = (("x-set", "own"), ("x-add", "own"), ("x-remove", "own"))
"""What every response carries."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came to the application."""

    name: str
    """Of the application."""
    method: str
    path: str
    """As on the wire."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case."""

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]


def seen(answer: Answer) -> Seen:
    """Return what the application saw of the request that got *answer*."""
    assert answer.status == 200, answer
    return msgspec.json.decode(answer.body, type=Seen)


@contextlib.asynccontextmanager
async def http_backend(
    name: str, address: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncGenerator[Place]:
    """Run an application, with *context* by TLS; yield its address and port."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/websocket":
            return await _websocket(request)
        return _answer(name, request)

    async with serving(answer, address, port, context) as place:
        yield place


@contextlib.asynccontextmanager
async def serving(
    handler: Handler,
    address: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Place]:
    """Let *handler* answer all requests to a place of its own, which is yielded."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port, ssl_context=tls).start()
        yield address, runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serving_all(handlers: Iterable[Handler]) -> AsyncGenerator[list[Place]]:
    """Let each of *handlers* answer at a place of its own; yield these in order."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(one)) for one in handlers]


def pods(places: Iterable[Place]) -> dict[str, Place]:
    """Return where pods really are, by the addresses 10.244.0.1 and so on that they have."""
    return {f"10.244.0.{number}": place for number, place in enumerate(places, 1)}


def _answer(name: str, request: web.Request) -> web.Response:
    found: dict[str, Any] = {
        "name": name,
        "method": request.method,
        "path": request.raw_path,
        "headers": [(k.decode().lower(), v.decode()) for k, v in request.raw_headers],
    }
    response = web.Response(text=json.dumps(found))
    for header, value in OWN_HEADERS:
        response.headers.add(header, value)
    return response


async def _websocket(request: web.Request) -> web.WebSocketResponse:
    """Say every message back."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{message.data} too")
    return socket
