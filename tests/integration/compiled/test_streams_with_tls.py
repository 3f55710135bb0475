"""TCPRoutes and TLSRoutes to Services with a BackendTLSPolicy, in a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import objects, streams
from support.compiled_envoy import (
    NODE,
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.pki import Issued, issue, tls_secret_raw

TCP, TLS = "gateway/shop/front/5000", "gateway/shop/front/443"
ADDRESSES = {"one": "10.244.0.1", "two": "10.244.0.2"}
Thing = Object | Broken


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as running:
        yield running


class Greeter:
    """A server that says its name, and then sends back the lines that it gets."""

    def __init__(self, name: str) -> None:
        self.name, self.taken = name, 0
        self.place: Place = ("", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        writer.write(f"{self.name}\n".encode())
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(line)
        writer.close()


@contextlib.asynccontextmanager
async def greeter(name: str, context: ssl.SSLContext | None = None) -> AsyncGenerator[Greeter]:
    made = Greeter(name)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        made.place = server.sockets[0].getsockname()[:2]
        yield made


def server_context(folder: Path, own: Issued, clients: Issued | None = None) -> ssl.SSLContext:
    file = folder / f"{own.certificate.serial_number}.pem"
    file.write_text(own.pem + own.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if clients is not None:
        context.load_verify_locations(cadata=clients.pem)
        context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(file)
    return context


async def answerer(
    envoy: CompiledEnvoy, listener: str, context: ssl.SSLContext | None = None, name: str = ""
) -> str:
    """Return who answers a new connection; "" if it is closed instead."""
    path = envoy.folder / socket_name(listener)
    try:
        reader, writer = await asyncio.open_unix_connection(
            path, ssl=context, server_hostname=name if context else None
        )
    except (ConnectionError, ssl.SSLError):
        return ""
    try:
        return (await reader.readline()).decode().strip()
    except (ConnectionError, ssl.SSLError):
        return ""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


def service(name: str) -> list[Thing]:
    address = ADDRESSES[name]
    return [
        objects.service(name, address.replace("10.244", "10.96")),
        objects.endpoint_slice(name, [address]),
    ]


def front(**spec: Any) -> Thing:
    passed = {"name": "passed", "hostname": "passed.test", "tls": {"mode": "Passthrough"}}
    ended = {
        "name": "ended",
        "hostname": "ended.test",
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": "cert"}]},
    }
    tls = [{"port": 443, "protocol": "TLS"} | one for one in (passed, ended)]
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "front", "namespace": "shop"},
            "spec": {
                "gatewayClassName": "penstock",
                "listeners": [{"name": "tcp", "protocol": "TCP", "port": 5000}, *tls],
                **spec,
            },
        }
    )


def compiled(*things: Thing) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), *service("one"), *service("two")]))
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def around(*servers: Greeter) -> Surroundings:
    return Surroundings(endpoints={ADDRESSES[one.name]: one.place for one in servers})


def shares(*backends: tuple[str, int]) -> Thing:
    return streams.route("TCPRoute", "all", backends)


async def answerers(envoy: CompiledEnvoy, count: int = 8) -> Counter[str]:
    return Counter([await answerer(envoy, TCP) for _ in range(count)])


async def test_tls_is_spoken_to_the_endpoints_of_that_service_alone(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    authority = issue("authority")
    context = server_context(tmp_path, issue("one.internal", by=authority))
    compiler = compiled(front(), shares(("one", 1), ("two", 1)), *streams.tls("one", authority))
    async with greeter("one", context) as one, greeter("two") as two:
        await envoy.run(compiler.resources(NODE), around(one, two))
        assert await answerers(envoy) == {"one": 4, "two": 4}


async def test_tls_that_is_ended_is_begun_again_and_what_is_handed_on_stays_as_it_is(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    authority = issue("authority")
    secret = objects.made(tls_secret_raw("cert", "shop", [issue("ended.test", by=authority)]))
    compiler = compiled(
        front(),
        secret,
        streams.route("TLSRoute", "ended", [("one", 1)], hostnames=["ended.test"]),
        streams.route("TLSRoute", "passed", [("one", 1)], hostnames=["passed.test"]),
        *streams.tls("one", authority),
    )
    trust = ssl.create_default_context(cadata=authority.pem)
    own = issue("one.internal", "passed.test", by=authority)
    async with greeter("one", server_context(tmp_path, own)) as one:
        await envoy.run(compiler.resources(NODE), around(one))
        assert await answerer(envoy, TLS, trust, "ended.test") == "one"
        assert await answerer(envoy, TLS, trust, "passed.test") == "one"


@pytest.mark.parametrize("trusted", ["stranger", "nobody"])
async def test_an_endpoint_that_is_not_who_it_should_be_gets_nothing(
    envoy: CompiledEnvoy, tmp_path: Path, trusted: str
) -> None:
    context = server_context(tmp_path, issue("one.internal"))
    policy = streams.tls("one", issue("stranger"))
    kept = policy if trusted == "stranger" else policy[1:]
    compiler = compiled(front(), shares(("one", 1), ("two", 1)), *kept)
    async with greeter("one", context) as one, greeter("two") as two:
        await envoy.run(compiler.resources(NODE), around(one, two))
        assert await answerers(envoy) == {"": 4, "two": 4}
        assert one.taken == 0


async def test_the_certificate_of_the_gateway_is_shown(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    authority = issue("authority")
    context = server_context(tmp_path, issue("one.internal", by=authority), authority)
    gateway = front(tls={"backend": {"clientCertificateRef": {"name": "client"}}})
    client = objects.made(tls_secret_raw("client", "shop", [issue("front", by=authority)]))
    compiler = compiled(gateway, client, shares(("one", 1)), *streams.tls("one", authority))
    async with greeter("one", context) as one:
        await envoy.run(compiler.resources(NODE), around(one))
        assert await answerers(envoy, 2) == {"one": 2}
        compiler.apply([Event(EventType.DELETED, client)])
        await envoy.run(compiler.resources(NODE), around(one))
        assert await answerers(envoy, 2) == {"": 2}
        assert one.taken == 2


async def test_no_change_of_policies_ends_a_connection(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    authority, other = issue("authority"), issue("other")
    context = server_context(tmp_path, issue("one.internal", by=authority))
    compiler = compiled(front(), shares(("one", 1)), *streams.tls("one", authority))
    changes = [
        Event(EventType.MODIFIED, streams.tls("one", other)[0]),
        Event(EventType.MODIFIED, shares(("two", 1))),
        Event(EventType.ADDED, streams.tls("two", authority)[1]),
        Event(EventType.MODIFIED, shares(("one", 1), ("two", 3))),
        Event(EventType.DELETED, streams.tls("one", authority)[1]),
        Event(EventType.MODIFIED, shares(("two", 1))),
        Event(EventType.DELETED, streams.tls("two", authority)[1]),
    ]
    async with greeter("one", context) as one, greeter("two") as two:
        await envoy.run(compiler.resources(NODE), around(one, two))
        path = envoy.folder / socket_name(TCP)
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            assert await reader.readline() == b"one\n"
            for number, change in enumerate(changes):
                compiler.apply([change])
                await envoy.run(compiler.resources(NODE), around(one, two))
                writer.write(f"{number}\n".encode())
                assert await reader.readline() == f"{number}\n".encode()
            assert await answerer(envoy, TCP) == "two"
        finally:
            writer.close()
    assert Counter(envoy.recorder.accepted)[f"Listener {TCP}"] == 1
