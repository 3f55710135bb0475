from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from penstock.cli.load import Answer, Connection, describe, length_of, target_of, version_in

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[str]:
    running: set[asyncio.Task[None]] = set()

    def started(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.ensure_future(handler(reader, writer)))

    server = await asyncio.start_server(started, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?y=1"
        await asyncio.gather(*running)


async def version_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer two requests on a connection, then break the third off."""
    body = b'{"version":"v2"}'
    with contextlib.suppress(asyncio.IncompleteReadError), contextlib.closing(writer):
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.readuntil(b"\r\n\r\n")


async def test_a_connection_is_kept_and_opened_again_after_a_failure() -> None:
    async with serving(version_two) as url:
        connection = Connection(target_of("GET", url, keep=True), keep=True)
        answers = [await connection.ask() for _ in range(4)]
        connection.close()
    assert answers[0] == answers[1] == answers[3] == Answer(200, "v2")
    assert answers[2] == Answer(0, "", "connection closed before the answer")


async def test_nobody_listening_is_a_refusal() -> None:
    async with serving(version_two) as url:
        pass
    connection = Connection(target_of("GET", url, keep=False), keep=False)
    assert await connection.ask() == Answer(0, "", "connection refused")


def test_a_name_with_two_addresses_that_both_refuse_is_a_refusal() -> None:
    text = "Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect call failed"
    assert describe(OSError(text)) == "connection refused"
    assert describe(OSError(text + ", [Errno 113] No route to host")) != "connection refused"


def test_the_request_says_the_host_of_the_url_or_another_one() -> None:
    assert b"host: orders:81\r\n" in target_of("GET", "http://orders:81/a", keep=True).request
    named = target_of("POST", "http://127.0.0.1/a", keep=False, host="shop.test").request
    assert b"host: shop.test\r\n" in named
    assert b"connection: close\r\n" in named
    assert b"content-length: 0\r\n" in named


def test_bodies_in_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="chunks"):
        length_of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_the_version_is_read_from_the_body() -> None:
    assert version_in(b'{"pod":"x","version":"v1"}') == "v1"
    assert version_in(b"Access denied") == ""
