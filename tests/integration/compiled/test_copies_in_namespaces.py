"""A copy of a request leaves from the network namespace of the pod that made the request."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Iterator

import pytest
import pytest_asyncio

from penstock.envoy.scope import egress_key
from penstock.meta.listeners import EGRESS_PORT
from penstock.xds import types
from penstock.xds.resource import Resource
from support import golden
from support.compiled_envoy import compiled_envoy, scope_at
from support.namespaces import namespaces, socket_in
from support.pod_namespaces import join_pods
from support.real_envoy import eventually

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.asyncio,
]

PODS = {"client": "10.244.0.4", "bound": "10.244.0.5"}
WEB, COPY = "10.244.0.1", "10.244.0.2"
VIP = "10.96.0.1:80"
EGRESS = ("127.0.0.1", EGRESS_PORT)


@pytest.fixture
def netns() -> Iterator[dict[str, str]]:
    """Give namespaces to the servers ("world"), to Envoy, and to each pod."""
    made = {role: f"psc{os.getpid()}{role[0]}" for role in ("world", "envoy", *PODS)}
    with namespaces(list(made.values())):
        pods = {made[pod]: address for pod, address in PODS.items()}
        join_pods(made["world"], pods, (WEB, COPY), towards="10.244.0.0/24")
        yield made


class Server:
    """Notes from where it is asked what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        peer: tuple[str, int] = writer.get_extra_info("peername")
        self.asked.append((peer[0], head.split()[1].decode()))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest_asyncio.fixture
async def servers(netns: dict[str, str]) -> AsyncGenerator[dict[str, Server]]:
    made = {WEB: Server(), COPY: Server()}
    running: list[asyncio.Server] = []
    for address, one in made.items():
        bound = socket_in(netns["world"], socket.SOCK_STREAM)
        bound.bind((address, 8080))
        running.append(await asyncio.start_server(one.answer, sock=bound))
    try:
        yield made
    finally:
        for server in running:
            server.close()
            await server.wait_closed()


def _found(resource: Resource) -> Resource:
    """Let the scope of the Service be found by what dials the listener of the pod itself."""
    if (resource.type_url, resource.name) != (types.SCOPE, egress_key(VIP)):
        return resource
    return scope_at(resource, egress_key(f"{EGRESS[0]}:{EGRESS[1]}"))


async def _ask(netns: str, path: str) -> bytes:
    loop = asyncio.get_running_loop()
    with socket_in(netns, socket.SOCK_STREAM) as client:
        await loop.sock_connect(client, EGRESS)
        request = f"GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n"
        await loop.sock_sendall(client, request.encode())
        return await loop.sock_recv(client, 4096)


async def test_a_copy_comes_from_the_clients_pod(
    netns: dict[str, str],
    servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("e")
    (folder / "netns").mkdir()
    places = {**{pod: netns[pod] for pod in PODS}, "node": netns["envoy"]}
    for name, there in places.items():
        (folder / "netns" / name).symlink_to(f"/run/netns/{there}")
    resources = [
        _found(one)
        for one in golden.compiled("mesh-copies").resources
        if one.type_url != types.LISTENER or one.name.partition("/")[0] in (*PODS, "copies")
    ]
    async with compiled_envoy(folder, netns=netns["envoy"]) as envoy:
        envoy.show_as_it_is(resources)
        await envoy.settled()
        for pod, address in PODS.items():
            path = f"/all/{address.rpartition('.')[2]}"
            answer = await asyncio.wait_for(_ask(netns[pod], path), 5)
            assert answer.startswith(b"HTTP/1.1 204")
            assert (address, path) in servers[WEB].asked
        await eventually(lambda: servers[COPY].asked == [(PODS["client"], "/all/4")])
