"""TCPRoutes and TLSRoutes in a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from penstock.agent.flows import FlowVerdict
from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import (
    NODE,
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.pki import issue, server_context, tls_secret_raw
from support.real_envoy import eventually
from support.streams import route

TCP, TLS = "gateway/shop/front/5000", "gateway/shop/front/443"
OLDER = "2026-01-01T00:00:00Z"
ENDPOINTS = {"one": "10.244.0.1", "two": "10.244.0.2"}


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    folder: Path = tmp_path_factory.mktemp("e")
    async with compiled_envoy(folder) as running:
        yield running


@contextlib.asynccontextmanager
async def greeter(name: str, context: ssl.SSLContext | None = None) -> AsyncGenerator[Place]:
    """A server that says its name, and then sends back the lines that it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{name}\n".encode())
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield host, port


class Caller:
    """A connection through Envoy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def line(self) -> str:
        """Return the next line; "" if the connection is closed."""
        try:
            return (await self._reader.readline()).decode().strip()
        except ConnectionResetError:
            return ""

    async def echo(self, text: str) -> str:
        self._writer.write(f"{text}\n".encode())
        return await self.line()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def calling(
    envoy: CompiledEnvoy, listener: str, context: ssl.SSLContext | None = None, name: str = ""
) -> AsyncGenerator[Caller]:
    path = envoy.folder / socket_name(listener)
    made = await asyncio.open_unix_connection(
        path, ssl=context, server_hostname=name or None if context else None
    )
    caller = Caller(*made)
    try:
        yield caller
    finally:
        await caller.close()


async def answerer(
    envoy: CompiledEnvoy, listener: str, context: ssl.SSLContext | None = None, name: str = ""
) -> str:
    """Return who answers a new connection; "" if it is closed instead."""
    try:
        async with calling(envoy, listener, context, name) as caller:
            return await caller.line()
    except (ConnectionError, ssl.SSLError):
        return ""


def service(name: str) -> list[Object | Broken]:
    slice_ = objects.endpoint_slice(name, [ENDPOINTS[name]])
    return [objects.service(name, f"10.96.0.{len(name) + ord(name[0]) % 9}"), slice_]


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), *service("one"), *service("two")]))
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def tcp_gateway() -> Object | Broken:
    return objects.gateway("front", [{"name": "tcp", "protocol": "TCP", "port": 5000}])


async def test_connections_are_shared_by_weight_and_the_share_of_nobody_is_refused(
    envoy: CompiledEnvoy,
) -> None:
    shares = [("one", 4), ("two", 2), ("missing", 2), ("two", 0)]
    compiler = compiled(tcp_gateway(), route("TCPRoute", "all", shares))
    async with greeter("one") as one, greeter("two") as two:
        around = Surroundings(endpoints={ENDPOINTS["one"]: one, ENDPOINTS["two"]: two})
        await envoy.run(compiler.resources(NODE), around)
        found = Counter([await answerer(envoy, TCP) for _ in range(80)])
        await eventually(lambda: envoy.flows.total == 80)
    verdicts = Counter((one.verdict, one.reason) for one in envoy.flows.last(80))
    assert verdicts == {
        (FlowVerdict.FORWARDED, ""): 80 - found[""],
        (FlowVerdict.ERROR, "upstream_connection_failure"): found[""],
    }
    # By turns, of which the first is chosen at random.
    assert found.keys() == {"one", "two", ""}
    assert all(abs(found[name] - share) <= 2 for name, share in (("one", 40), ("two", 20)))


async def test_no_change_of_routes_ends_a_connection(envoy: CompiledEnvoy) -> None:
    first = route("TCPRoute", "first", [("one", 1)])
    compiler = compiled(tcp_gateway(), first)
    changes = [
        Event(EventType.MODIFIED, route("TCPRoute", "first", [("one", 1), ("two", 999)])),
        Event(
            EventType.ADDED, route("TCPRoute", "older", [("two", 1)], since="2026-01-01T00:00:00Z")
        ),
        Event(EventType.DELETED, first),
        Event(EventType.MODIFIED, objects.endpoint_slice("one", [])),
    ]
    async with greeter("one") as one, greeter("two") as two:
        around = Surroundings(endpoints={ENDPOINTS["one"]: one, ENDPOINTS["two"]: two})
        await envoy.run(compiler.resources(NODE), around)
        async with calling(envoy, TCP) as caller:
            assert await caller.line() == "one"
            for number, change in enumerate(changes):
                compiler.apply([change])
                await envoy.run(compiler.resources(NODE), around)
                assert await caller.echo(str(number)) == str(number)
            assert await answerer(envoy, TCP) == "two"
    touched = Counter(envoy.recorder.accepted)
    assert touched[f"Listener {TCP}"] == 1
    assert touched["Cluster stream|shop/front/5000|*"] == 1


async def test_without_a_route_connections_are_closed(envoy: CompiledEnvoy) -> None:
    await envoy.run(compiled(tcp_gateway()).resources(NODE))
    assert await answerer(envoy, TCP) == ""


def tls_gateway() -> Object | Broken:
    ended = {"mode": "Terminate", "certificateRefs": [{"name": "cert"}]}
    listeners = [
        {"name": "passed", "hostname": "*.passed.test", "tls": {"mode": "Passthrough"}},
        {"name": "ended", "hostname": "ended.test", "tls": ended},
    ]
    return objects.gateway("front", [{"port": 443, "protocol": "TLS"} | one for one in listeners])


async def test_tls_goes_where_its_server_name_leads_handed_on_or_ended(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    authority = issue("authority")
    own = issue("a.passed.test", "x.passed.test", by=authority)
    ended = objects.made(tls_secret_raw("cert", "shop", [issue("ended.test", by=authority)]))
    compiler = compiled(
        tls_gateway(),
        ended,
        route("TLSRoute", "exact", [("one", 1)], hostnames=["a.passed.test"]),
        route(
            "TLSRoute", "wide", [("two", 1)], hostnames=["*.passed.test"],
            since=OLDER,
        ),
        route("TLSRoute", "ended", [("missing", 0), ("plain", 1)], hostnames=["ended.test"]),
        objects.service("plain", "10.96.0.77"),
        objects.endpoint_slice("plain", ["10.244.0.3"]),
    )  # fmt: skip
    trust = ssl.create_default_context(cadata=authority.pem)
    context = server_context(own, tmp_path)
    async with (
        greeter("one", context) as one,
        greeter("two", context) as two,
        greeter("plain") as plain,
    ):
        places = {ENDPOINTS["one"]: one, ENDPOINTS["two"]: two, "10.244.0.3": plain}
        await envoy.run(compiler.resources(NODE), Surroundings(endpoints=places))
        assert await answerer(envoy, TLS, trust, "a.passed.test") == "one"
        assert await answerer(envoy, TLS, trust, "x.passed.test") == "two"
        assert await answerer(envoy, TLS, trust, "ended.test") == "plain"
        assert await answerer(envoy, TLS, trust, "passed.test") == ""
        async with calling(envoy, TLS) as caller:
            assert await caller.echo("this is no handshake") == ""
        await eventually(lambda: envoy.flows.total == 3)
    assert {(one.protocol, one.host, one.verdict) for one in envoy.flows.last(3)} == {
        ("tcp", name, FlowVerdict.FORWARDED)
        for name in ("a.passed.test", "x.passed.test", "ended.test")
    }
