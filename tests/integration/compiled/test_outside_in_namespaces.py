"""Requests of pods to places outside of the cluster leave from the pods, as policy lets them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import msgspec
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.core.pods import Pod
from penstock.envoy.scope import egress_key
from penstock.meta.listeners import EGRESS_PORT
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects
from support.compiled_envoy import NODE, compiled_envoy, scope_at
from support.namespaces import namespaces, root_is_mount, socket_in
from support.pod_namespaces import answer_with_peer, join_pods

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(
        not root_is_mount(), reason="a namespace's own resolv.conf needs a / that is a mount"
    ),
    pytest.mark.asyncio,
]

PODS = {"free": "10.244.0.4", "bound": "10.244.0.5"}
OUTSIDE, INSIDE = "203.0.113.9", "10.9.9.9"
NAMES = {
    "outside.test": OUTSIDE,
    "inside.test": INSIDE,
    "itself.test": "127.0.0.1",
    "web.shop.svc.cluster.local": OUTSIDE,
}
RESOLVER = "nameserver 127.0.0.1\nsearch cluster.local\noptions ndots:5\n"
"""As pods have it."""
VIP = "10.96.0.1:80"
EGRESS = ("127.0.0.1", EGRESS_PORT)


@pytest.fixture
def netns() -> Iterator[dict[str, str]]:
    """Give namespaces to the servers ("world"), to Envoy, which asks for names, and to each pod."""
    made = {role: f"pso{os.getpid()}{role[0]}" for role in ("world", "envoy", *PODS)}
    etc = Path("/etc/netns") / made["envoy"]
    with namespaces(list(made.values())):
        pods = {made[pod]: address for pod, address in PODS.items()}
        join_pods(made["world"], pods, (OUTSIDE, INSIDE))
        etc.mkdir(parents=True)
        try:
            (etc / "resolv.conf").write_text(RESOLVER)
            yield made
        finally:
            shutil.rmtree(etc)


async def _say_names(bound: socket.socket) -> None:
    """Answer questions for the addresses of names."""
    loop = asyncio.get_running_loop()
    while True:
        asked, client = await loop.sock_recvfrom(bound, 512)
        reply = dns.message.make_response(dns.message.from_wire(asked))
        (question,) = reply.question
        address = NAMES.get(question.name.to_text(omit_final_dot=True))
        if address is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", address))
        await loop.sock_sendto(bound, reply.to_wire(), client)


@pytest_asyncio.fixture
async def servers(netns: dict[str, str]) -> AsyncGenerator[None]:
    running: list[asyncio.Server] = []
    names = socket_in(netns["envoy"], socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    saying = asyncio.create_task(_say_names(names))
    for address in (OUTSIDE, INSIDE):
        bound = socket_in(netns["world"], socket.SOCK_STREAM)
        bound.bind((address, 8080))
        running.append(await asyncio.start_server(answer_with_peer, sock=bound))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.wait({saying})
        names.close()
        for server in running:
            server.close()
            await server.wait_closed()


def _pod(name: str, address: str) -> Object | Broken:
    """Return a pod whose uid is its name, by which its namespace is found."""
    found = objects.pod(name, address, {"app": name}, node=NODE)
    assert isinstance(found, Pod)
    return msgspec.structs.replace(
        found, metadata=msgspec.structs.replace(found.metadata, uid=name)
    )


def _resources(hostname: str) -> list[Resource]:
    item = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"path": "/a"}]}}
    rules = {
        "endpointSelector": {"matchLabels": {"app": "bound"}},
        "egress": [{"toEntities": ["world"], "toPorts": [item]}],
    }
    compiler = Compiler()
    things = [
        objects.service("api", "10.96.0.1"),
        objects.xbackend("outside", hostname, port=8080),
        objects.http_route("r", parent=objects.on_service("api"), backends=[("outside", 1)]),
        objects.policy("egress", rules),
        *(_pod(name, address) for name, address in PODS.items()),
    ]
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return [*map(_found, compiler.resources(NODE))]


def _found(resource: Resource) -> Resource:
    """Let the scope of the Service be found by what dials the listener of the pod itself."""
    if (resource.type_url, resource.name) != (types.SCOPE, egress_key(VIP)):
        return resource
    return scope_at(resource, egress_key(f"{EGRESS[0]}:{EGRESS[1]}"))


async def _ask(netns: str, path: str) -> tuple[int, str]:
    """Return status and body of an answer to a pod."""
    loop = asyncio.get_running_loop()
    with socket_in(netns, socket.SOCK_STREAM) as client:
        await loop.sock_connect(client, EGRESS)
        request = f"GET {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n"
        await loop.sock_sendall(client, request.encode())
        answer = b""
        while received := await loop.sock_recv(client, 4096):
            answer += received
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.usefixtures("servers")
async def test_pods_dial_outside_themselves_and_only_where_they_may(
    netns: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("e")
    (folder / "netns").mkdir()
    places = {**{pod: netns[pod] for pod in PODS}, "node": netns["envoy"]}
    for name, there in places.items():
        (folder / "netns" / name).symlink_to(f"/run/netns/{there}")
    async with compiled_envoy(folder, netns=netns["envoy"]) as envoy:
        envoy.show_as_it_is(_resources("outside.test"))
        await envoy.settled()
        for pod, address in PODS.items():
            assert await asyncio.wait_for(_ask(netns[pod], "/a"), 5) == (200, address)
        assert (await asyncio.wait_for(_ask(netns["free"], "/b"), 5))[0] == 200
        assert (await asyncio.wait_for(_ask(netns["bound"], "/b"), 5))[0] == 403

        envoy.show_as_it_is(_resources("inside.test"))
        await envoy.settled()
        assert await asyncio.wait_for(_ask(netns["free"], "/a"), 5) == (200, PODS["free"])
        assert (await asyncio.wait_for(_ask(netns["bound"], "/a"), 5))[0] == 403

        envoy.show_as_it_is(_resources("web.shop.svc"))
        await envoy.settled()
        assert (await asyncio.wait_for(_ask(netns["free"], "/a"), 5))[0] == 503

        envoy.show_as_it_is(_resources("itself.test"))
        await envoy.settled()
        assert (await asyncio.wait_for(_ask(netns["free"], "/a"), 5))[0] == 403
