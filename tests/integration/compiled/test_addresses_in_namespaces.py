"""A node as in a cluster: Envoy in a pod of its own, addresses of a pool on the node's link."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Iterator

import msgspec
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import NODE, compiled_envoy
from support.namespaces import ip, linked, namespaces, socket_in
from support.pod_namespaces import answer_with_peer

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.asyncio,
]

CLUSTER = Settings(reach=Reach.CLUSTER, gateway_pool="172.31.9.128/28")
GATEWAY, BALANCED = "172.31.9.130", "172.31.9.131"
SERVER, ENVOY = "10.9.0.1", "10.9.0.2"
PATIENCE = 30.0


class Machines(msgspec.Struct, frozen=True):
    """Three network namespaces, by name: all others, a node, and the pod in which Envoy runs."""

    world: str
    node: str
    pod: str


@pytest.fixture
def machines() -> Iterator[Machines]:
    made = Machines(*(f"pst{os.getpid()}{role}" for role in ("w", "n", "p")))
    with namespaces((made.world, made.node, made.pod)):
        linked(made.world, made.node, ("172.31.9.1", "172.31.9.11"))
        linked(made.world, made.pod, (SERVER, ENVOY))
        yield made


async def _answer_datagrams(bound: socket.socket) -> None:
    """Answer each datagram with the address that it came from."""
    loop = asyncio.get_running_loop()
    while True:
        _, client = await loop.sock_recvfrom(bound, 4096)
        await loop.sock_sendto(bound, client[0].encode(), client)


@pytest_asyncio.fixture
async def servers(machines: Machines) -> AsyncGenerator[None]:
    """Run a server for TCP and one for UDP that answer with the client's address."""
    stream, datagrams = (
        socket_in(machines.world, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    for one in (stream, datagrams):
        one.bind((SERVER, 8080))
    server = await asyncio.start_server(answer_with_peer, sock=stream)
    answering = asyncio.create_task(_answer_datagrams(datagrams))
    try:
        yield
    finally:
        answering.cancel()
        await asyncio.wait({answering})
        datagrams.close()
        server.close()
        await server.wait_closed()


def slice_of(service: str, protocol: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-{protocol.lower()}",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "ports": [{"name": protocol.lower(), "port": 8080, "protocol": protocol}],
            "endpoints": [{"addresses": [SERVER]}],
        }
    )


def compiled() -> Compiler:
    ports = [
        {"name": protocol.lower(), "port": 80, "protocol": protocol, "targetPort": 8080}
        for protocol in ("TCP", "UDP")
    ]
    compiler = Compiler(CLUSTER)
    things = [
        objects.node(NODE, "172.31.9.11"),
        objects.gateway_class(),
        objects.gateway("gw", addresses=[{"value": GATEWAY}]),
        objects.http_route("r", parent={"name": "gw"}, backends=[("front", 1)]),
        objects.balanced("front", "10.96.0.1", ports=ports, loadBalancerIP=BALANCED),
        slice_of("front", "TCP"),
        slice_of("front", "UDP"),
    ]
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


async def _asked(netns: str, kind: socket.SocketKind, address: str) -> bytes:
    """Return the last line of the answer to a request from a network namespace."""
    loop = asyncio.get_running_loop()
    with socket_in(netns, kind) as client:
        await loop.sock_connect(client, (address, 80))
        await loop.sock_sendall(
            client, b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n"
        )
        answer = b""
        while not answer or kind is socket.SOCK_STREAM:
            received = await loop.sock_recv(client, 4096)
            if not received:
                break
            answer += received
        return answer.rpartition(b"\r\n")[2]


@pytest.mark.usefixtures("servers")
async def test_addresses_of_the_pool_are_served_and_servers_see_the_pod_of_envoy(
    machines: Machines, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("e")
    (folder / "netns").mkdir()
    (folder / "netns" / "host").symlink_to(f"/run/netns/{machines.node}")
    (folder / "netns" / "node").symlink_to(f"/run/netns/{machines.pod}")
    async with compiled_envoy(folder, netns=machines.pod) as envoy:
        envoy.show_as_it_is(compiled().resources(NODE))
        await envoy.settled()
        for address in (GATEWAY, BALANCED):  # they come after the listeners
            ip("addr", "add", f"{address}/32", "dev", "eth0", netns=machines.node)
        seen: list[bytes] = []
        ways: list[tuple[socket.SocketKind, str]] = [
            (socket.SOCK_STREAM, GATEWAY),
            (socket.SOCK_STREAM, BALANCED),
            (socket.SOCK_DGRAM, BALANCED),
        ]
        for kind, address in ways:
            asked = _asked(machines.world, kind, address)
            seen.append(await asyncio.wait_for(asked, PATIENCE))
        assert seen == [ENVOY.encode()] * len(ways)
