from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.lab.echo import serve
from penstock.lab.echo_http1 import Http1
from penstock.lab.echo_messages import Whoami, respond

ME = {"POD_NAME": "orders-1", "POD_NAMESPACE": "shop", "VERSION": "v2", "SERVICE": "orders"}


def listening(port: int) -> bool:
    with socket.socket() as v4, socket.socket(socket.AF_INET6) as v6:
        return v4.connect_ex(("127.0.0.1", port)) == v6.connect_ex(("::1", port)) == 0


@contextlib.asynccontextmanager
async def echo() -> AsyncGenerator[tuple[int, asyncio.Event, asyncio.Task[None]], None]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    stop = asyncio.Event()
    running = asyncio.create_task(serve({**ME, "PORT": str(port)}, stop))
    async with asyncio.timeout(10):
        while not listening(port):  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.005)
    try:
        yield port, stop, running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *lines = head.strip().split("\r\n")
    headers = dict(one.lower().split(": ", 1) for one in lines)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return int(line.split()[1]), headers, body


async def test_answer_tells_who_it_is_and_what_it_saw() -> None:
    async with echo() as (port, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /a?b=1 HTTP/1.1\r\nHost: x\r\nA: 1\r\nA: 2\r\nContent-Length: 3\r\n\r\nabc"
        )
        status, _, body = await read_answer(reader)
        writer.close()
        await writer.wait_closed()
    assert status == 200
    assert json.loads(body) == {
        "pod": "orders-1",
        "namespace": "shop",
        "service": "orders",
        "version": "v2",
        "method": "POST",
        "path": "/a?b=1",
        "host": "x",
        "protocol": "HTTP/1.1",
        "remote": "127.0.0.1",
        "body_bytes": 3,
        "headers": {"host": "x", "a": "1, 2", "content-length": "3"},
    }


async def test_connection_stays_for_the_next_request() -> None:
    async with echo() as (port, _, _):
        reader, writer = await asyncio.open_connection("::1", port)
        for path in (b"/status/404", b"/status/503/x", b"/"):
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        statuses = [(await read_answer(reader))[0] for _ in range(3)]
        writer.close()
        await writer.wait_closed()
    assert statuses == [404, 503, 200]


async def test_delayed_answer_does_not_overtake_nor_get_lost() -> None:
    async with echo() as (port, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"GET /delay/30 HTTP/1.1\r\nHost: x\r\n\r\nGET /now HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        paths = [json.loads((await read_answer(reader))[2])["path"] for _ in range(2)]
        writer.close()
        await writer.wait_closed()
    assert paths == ["/delay/30", "/now"]


async def test_http2_with_prior_knowledge_is_answered() -> None:
    async with echo() as (port, _, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status, answer = await http2_get(reader, writer, b"x" * 70_000)
        writer.close()
        await writer.wait_closed()
    assert status == "200"
    assert (answer["protocol"], answer["host"], answer["path"]) == ("HTTP/2", "orders", "/h2")
    assert answer["body_bytes"] == 70_000


async def http2_get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[str, dict[str, Any]]:
    client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    client.initiate_connection()
    headers = [(":method", "POST"), (":path", "/h2"), (":scheme", "http"), (":authority", "orders")]
    client.send_headers(1, headers)
    status, received = "", b""
    while True:
        while body and (room := min(client.local_flow_control_window(1), 16384, len(body))):
            client.send_data(1, body[:room], end_stream=room == len(body))
            body = body[room:]
        writer.write(client.data_to_send())
        for event in client.receive_data(await reader.read(65536)):
            match event:
                case ResponseReceived(headers=got):
                    status = {str(k): str(v) for k, v in got or ()}[":status"]
                case DataReceived(data=data):
                    received += data or b""
                case StreamEnded():
                    return status, json.loads(received)
                case _:
                    pass


async def test_stop_lets_open_requests_end() -> None:
    async with echo() as (port, stop, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /delay/50 HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        stop.set()
        status, headers, _ = await read_answer(reader)
        assert (status, headers["connection"]) == (200, "close")
        writer.close()
        await writer.wait_closed()
        await running


@pytest.mark.parametrize(
    "raw", [b"NONSENSE\r\n\r\n", b"GET / HTTP/2.7\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"]
)
def test_nonsense_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Http1().receive(raw)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60))
def test_requests_are_found_however_the_bytes_are_cut(cuts: list[int]) -> None:
    stream = (
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        b"PUT /3 HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET "
        b"GET /4 HTTP/1.0\r\n\r\n"
    )
    codec, found, at = Http1(), [], 0
    for cut in [*cuts, len(stream)]:
        found += codec.receive(stream[at : at + cut])
        at += cut
    assert [(number, one.path, one.body_bytes) for number, one in found] == [
        (0, "/1", 0),
        (1, "/2", 5),
        (2, "/3", 4),
        (3, "/4", 0),
    ]
    me = Whoami.from_environment(ME)
    for number, one in reversed(found):
        codec.send(number, respond(one, me, ""), last=False)
    assert codec.take_output().count(b"HTTP/1.1 200") == 4
    assert codec.closing
