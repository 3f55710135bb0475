"""XBackends that select pods, at Gateways with a real Envoy."""

from __future__ import annotations

import asyncio
import functools
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
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.http_backend import http_backend, seen
from support.pki import Issued, issue, tls_secret_raw
from support.real_envoy import eventually
from support.tls_server import NAME, strict_server

FRONT = "gateway/shop/front/80"
WEB = {"app": "web"}
PODS = ("10.244.0.1", "10.244.0.2", "10.244.0.3")
SERVICE = "10.244.0.9"


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as made:
        yield made


def pod(number: int, *, ready: bool = True) -> Object | Broken:
    return objects.pod(f"web-{number}", PODS[number], WEB, ready=ready)


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), objects.gateway("front"), *things]))
    assert compiler.failures == {}
    return compiler


def route(*backends: tuple[str, int]) -> Object | Broken:
    return objects.http_route("r", parent={"name": "front"}, backends=backends or [("picked", 1)])


def picked(**spec: Any) -> Object | Broken:
    return objects.xbackend("picked", WEB, port=8080, **spec)


async def answerers(envoy: CompiledEnvoy, count: int = 40) -> Counter[str]:
    """Return who answered how many of some requests; 503 and the like by themselves."""
    found = [await envoy.ask(FRONT) for _ in range(count)]
    return Counter(seen(one).name if one.status == 200 else str(one.status) for one in found)


async def test_pods_are_shared_with_a_service_by_weight(envoy: CompiledEnvoy) -> None:
    compiler = compiled(
        picked(),
        route(("picked", 3), ("api", 1)),
        pod(0),
        pod(1),
        objects.service("api", "10.96.0.1"),
        objects.endpoint_slice("api", [SERVICE]),
    )
    async with http_backend("one") as one, http_backend("two") as two, http_backend("api") as api:
        around = Surroundings(endpoints={PODS[0]: one, PODS[1]: two, SERVICE: api})
        await envoy.run(compiler.resources("n1"), around)
        found = await answerers(envoy, 80)
    assert set(found) == {"one", "two", "api"}
    assert found["api"] < found["one"] + found["two"]


async def test_pods_come_and_go_without_an_error(envoy: CompiledEnvoy) -> None:
    compiler = compiled(picked(), route(), pod(0))
    async with http_backend("one") as one, http_backend("two") as two:
        around = Surroundings(endpoints={PODS[0]: one, PODS[1]: two})
        await envoy.run(compiler.resources("n1"), around)
        answered: list[str] = []
        asking = asyncio.create_task(_ask_on(envoy, answered))
        try:
            for changed, who in (
                (pod(1), {"one", "two"}),
                (pod(0, ready=False), {"two"}),
                (pod(0), {"one", "two"}),
            ):
                compiler.apply([Event(EventType.MODIFIED, changed)])
                await envoy.run(compiler.resources("n1"), around)
                before = len(answered) + 1
                await eventually(functools.partial(_longer, answered, before + 20))
                assert set(answered[before:]) == who
        finally:
            asking.cancel()
            await asyncio.wait({asking})
    assert set(answered) == {"one", "two"}


def _longer(found: list[str], length: int) -> bool:
    return len(found) > length


async def _ask_on(envoy: CompiledEnvoy, answered: list[str]) -> None:
    while True:
        answered.extend(await answerers(envoy, 1))


async def test_nobody_who_is_ready_is_unavailable(envoy: CompiledEnvoy) -> None:
    compiler = compiled(picked(), route(), pod(0, ready=False))
    await envoy.run(compiler.resources("n1"))
    assert await answerers(envoy, 3) == {"503": 3}


@pytest.mark.parametrize(
    "spec",
    [{"protocol": "HTTP2"}, {"tls": {"mode": "ServerOnly"}}, {"noSuchField": 1}],
)
async def test_what_cannot_be_served_as_it_is_written_is_closed(
    envoy: CompiledEnvoy, spec: dict[str, Any]
) -> None:
    compiler = compiled(picked(**spec), route(), pod(0))
    await envoy.run(compiler.resources("n1"))
    assert await answerers(envoy, 3) == {"500": 3}


async def test_a_session_stays_at_its_pod(envoy: CompiledEnvoy) -> None:
    kept = {"type": "Header", "header": {"name": "x-session"}}
    compiler = compiled(picked(sessionPersistence=kept), route(), pod(0), pod(1))
    async with http_backend("one") as one, http_backend("two") as two:
        around = Surroundings(endpoints={PODS[0]: one, PODS[1]: two})
        await envoy.run(compiler.resources("n1"), around)
        first = await envoy.ask(FRONT)
        mine = {"x-session": first.header("x-session") or ""}
        found = {seen(await envoy.ask(FRONT, headers=mine)).name for _ in range(10)}
    assert found == {seen(first).name}


def tls(authority: Issued, mode: str, hostname: str = NAME) -> list[Object | Broken]:
    """Return the XBackend with TLS, and what it refers to."""
    refs = [{"group": "", "kind": "ConfigMap", "name": "ca"}]
    given: dict[str, Any] = {
        "mode": mode,
        "validation": {"hostname": hostname, "caCertificateRefs": refs},
    }
    if mode == "ClientAndServer":
        given["clientCertificateRef"] = {"name": "client"}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"ca.crt": authority.pem},
    }
    client = issue("client", by=authority)
    secret = tls_secret_raw("client", "shop", [client])
    return [picked(tls=given), objects.made(config_map), objects.made(secret)]


async def _status(envoy: CompiledEnvoy, place: Place, *things: Object | Broken) -> int:
    compiler = compiled(route(), pod(0), *things)
    await envoy.run(compiler.resources("n1"), Surroundings(endpoints={PODS[0]: place}))
    return (await envoy.ask(FRONT)).status


async def test_pods_are_shown_the_certificate_that_the_xbackend_names(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    async with strict_server(tmp_path) as (place, authority, whose):
        assert await _status(envoy, place, *tls(authority, "ClientAndServer")) == 200
        assert whose == ["client"]
        assert await _status(envoy, place, *tls(authority, "ServerOnly")) == 503
        assert await _status(envoy, place, *tls(authority, "ClientAndServer", "other.test")) == 503
        assert await _status(envoy, place, *tls(issue("other"), "ClientAndServer")) == 503
    assert whose == ["client"]


async def test_connections_go_to_pods_with_tls_that_is_begun_here(
    envoy: CompiledEnvoy, tmp_path: Path
) -> None:
    listener = {"name": "tcp", "protocol": "TCP", "port": 80}
    passing = streams.route("TCPRoute", "t", [("picked", 1)])
    async with strict_server(tmp_path) as (place, authority, whose):
        compiler = compiled(passing, pod(0), *tls(authority, "ClientAndServer"))
        compiler.apply(objects.added([objects.gateway("front", [listener])]))
        await envoy.run(compiler.resources("n1"), Surroundings(endpoints={PODS[0]: place}))
        assert (await envoy.ask(FRONT)).status == 200
    assert whose == ["client"]
