"""Services of type LoadBalancer, and addresses that are not there yet, in a real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import NODE, CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.http_backend import http_backend
from support.kube import free_ports

CLUSTER = Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28")
LISTENER = "lb/shop/front/80"
ELSEWHERE = "192.0.2.9"
"""An address that is on no link of this machine."""


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler(CLUSTER)
    nodes = (objects.node(NODE, "172.31.0.11"), objects.gateway_class())
    compiler.apply(objects.added([*nodes, *things]))
    assert compiler.failures == {}
    return compiler


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    folder: Path = tmp_path_factory.mktemp("e")
    async with compiled_envoy(folder) as running:
        yield running


async def ask(place: Place) -> bytes:
    """Return the answer of whoever is at *place*, b"" if the connection is closed."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_connections_are_passed_on_to_the_endpoints(envoy: CompiledEnvoy) -> None:
    service = objects.balanced("front", "10.96.0.1")
    compiler = compiled(service, objects.endpoint_slice("front", ["10.244.0.1"]))
    place = ("127.0.0.1", free_ports(1)[0])
    async with http_backend("one") as backend:
        around = Surroundings(listeners={LISTENER: place}, endpoints={"10.244.0.1": backend})
        await envoy.run(compiler.resources(NODE), around)
        assert b'"one"' in await ask(place)


async def test_kept_on_its_node_it_sends_to_endpoints_of_that_node_only(
    envoy: CompiledEnvoy,
) -> None:
    service = objects.balanced("front", "10.96.0.1", externalTrafficPolicy="Local")
    on = {"10.244.0.1": NODE, "10.244.0.2": "n2"}
    compiler = compiled(service, objects.endpoint_slice("front", on, on=on))
    place = ("127.0.0.1", free_ports(1)[0])
    async with http_backend("here") as here, http_backend("there") as there:
        around = Surroundings(
            listeners={LISTENER: place}, endpoints={"10.244.0.1": here, "10.244.0.2": there}
        )
        await envoy.run(compiler.resources(NODE), around)
        answers = [await ask(place) for _ in range(12)]
        assert all(b'"here"' in one for one in answers), answers


async def test_a_client_is_led_to_the_same_endpoint_where_the_service_asks_for_it(
    envoy: CompiledEnvoy,
) -> None:
    service = objects.balanced("front", "10.96.0.1", sessionAffinity="ClientIP")
    compiler = compiled(service, objects.endpoint_slice("front", ["10.244.0.1", "10.244.0.2"]))
    place = ("127.0.0.1", free_ports(1)[0])
    async with http_backend("one") as one, http_backend("two") as two:
        around = Surroundings(
            listeners={LISTENER: place}, endpoints={"10.244.0.1": one, "10.244.0.2": two}
        )
        await envoy.run(compiler.resources(NODE), around)
        answers = [await ask(place) for _ in range(20)]
        found = {name for name in (b'"one"', b'"two"') for answer in answers if name in answer}
        assert len(found) == 1


@pytest.mark.parametrize(("source", "is_let_in"), [("127.0.0.0/8", True), ("192.0.2.0/24", False)])
async def test_only_named_sources_are_let_in(
    envoy: CompiledEnvoy, source: str, *, is_let_in: bool
) -> None:
    service = objects.balanced("front", "10.96.0.1", loadBalancerSourceRanges=[source])
    compiler = compiled(service, objects.endpoint_slice("front", ["10.244.0.1"]))
    place = ("127.0.0.1", free_ports(1)[0])
    async with http_backend("one") as backend:
        around = Surroundings(listeners={LISTENER: place}, endpoints={"10.244.0.1": backend})
        await envoy.run(compiler.resources(NODE), around)
        assert (b'"one"' in await ask(place)) is is_let_in


async def test_listeners_open_before_their_address_is_there(envoy: CompiledEnvoy) -> None:
    compiler = compiled(objects.balanced("front", "10.96.0.1"), objects.gateway("gw"))
    ports = free_ports(2)
    around = Surroundings(
        listeners={
            LISTENER: (ELSEWHERE, ports[0]),
            "gateway/shop/gw/80": (ELSEWHERE, ports[1]),
        }
    )
    await envoy.run(compiler.resources(NODE), around)
    found = await envoy.admin("/listeners?format=json")
    at = {
        one["local_address"]["socket_address"]["port_value"]
        for one in found["listener_statuses"]
        if one["local_address"]["socket_address"]["address"] == ELSEWHERE
    }
    assert at == set(ports)
