"""Services whose clients stay at their backend: each pod is a client."""

from __future__ import annotations

import os
import select
import socket
import time

import pytest

from penstock.bpf.abi import Stay, StayKey
from penstock.bpf.libbpf import library
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import Backend
from penstock.ir.policy import UDP
from support.kernel_node import V4, V6, VIP, VIP6, Node

PORTS = tuple(range(8081, 8089))
MANY = 40
LONG = 86_400


def backends(node: Node, *ports: int, family: int = V4) -> list[Backend]:
    return [node.backend("server", family, port=port) for port in ports]


class Servers:
    """Listeners of pod "server", one for each port."""

    def __init__(self, node: Node, family: int = V4) -> None:
        self._node, self._vip = node, VIP if family == V4 else VIP6
        self._listeners = [node.listen("server", family, port=port) for port in PORTS]

    def reached(self, client: str = "client", times: int = MANY) -> set[int]:
        """Return the ports that so many connections of a pod come to."""
        found: set[int] = set()
        for _ in range(times):
            self._node.connect(client, self._vip, 80).close()
            (listener,), _, _ = select.select(self._listeners, [], [], 5)
            listener.accept()[0].close()
            found.add(listener.getsockname()[1])
        return found


def note_time(node: Node, nanoseconds: int) -> None:
    """Let all that was noted be of a time since the machine was started."""
    fd = library().call("bpf_obj_get", bytes(node.bpffs / "maps" / "stays"), what="stays")
    try:
        table = BpfMap(fd, "stays", StayKey, Stay)
        for key, stay in list(table.items()):
            stay.last_seen_ns = nanoseconds
            table.put(key, stay)
    finally:
        os.close(fd)


@pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])
def test_each_pod_stays_where_it_was_led_first(node: Node, family: int) -> None:
    servers = Servers(node, family)
    node.service(*backends(node, *PORTS, family=family), stay_seconds=LONG)
    assert len(servers.reached("client")) == 1
    assert len(servers.reached("other")) == 1


def test_without_it_connections_go_everywhere(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS))
    assert len(servers.reached()) > 1


def test_it_stays_while_others_come_and_go(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS), stay_seconds=LONG)
    (first,) = servers.reached()
    others = [port for port in PORTS if port != first]
    for left in (others, others[:3], [], others[4:]):
        node.service(*backends(node, first, *left), stay_seconds=LONG)
        assert servers.reached() == {first}


def test_it_goes_elsewhere_when_its_backend_is_gone_and_stays_there(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS), stay_seconds=LONG)
    (first,) = servers.reached()
    node.service(*backends(node, *(one for one in PORTS if one != first)), stay_seconds=LONG)
    (second,) = servers.reached()
    assert second != first
    node.service(*backends(node, *PORTS), stay_seconds=LONG)
    assert servers.reached() == {second}


def test_a_backend_without_a_share_is_as_good_as_gone(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS), stay_seconds=LONG)
    (first,) = servers.reached()
    weights = {port: int(port != first) for port in PORTS}
    members = [node.backend("server", port=port, weight=share) for port, share in weights.items()]
    node.service(*members, stay_seconds=LONG)
    assert first not in servers.reached()


def test_after_its_time_it_may_go_anywhere(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS), stay_seconds=60)
    found: set[int] = set()
    for _ in range(MANY):
        found |= servers.reached(times=1)
        note_time(node, 0)
    assert len(found) > 1


def test_it_stays_if_another_connection_is_noted_a_moment_later_meanwhile(node: Node) -> None:
    servers = Servers(node)
    node.service(*backends(node, *PORTS), stay_seconds=LONG)
    found: set[int] = set()
    for _ in range(MANY):
        found |= servers.reached(times=1)
        note_time(node, time.monotonic_ns() + 60_000_000_000)
    assert len(found) == 1


@pytest.mark.parametrize("among", [2, 3, 255, 4096])
def test_it_is_found_among_many(node: Node, among: int) -> None:
    listener = node.listen("server")
    lower, higher = (node.address("server") + step for step in (-1, 1))
    half = among // 2
    dead = [Backend(lower, 10_000 + n, 0) for n in range(half)]
    dead += [Backend(higher, 10_000 + n, 0) for n in range(among - half - 1)]
    node.service(*dead, node.backend("server"), stay_seconds=LONG)
    node.connect("client", VIP, 80)
    node.accept(listener)
    # All others get everything now, so it is by what was noted that it comes there again.
    dead = [Backend(one.address, one.port, 1_000_000) for one in dead]
    node.service(*dead, node.backend("server"), stay_seconds=LONG)
    for _ in range(5):
        node.connect("client", VIP, 80)
        node.accept(listener)


def test_datagrams_stay_too(node: Node) -> None:
    servers = [node.make_socket("server", V4, socket.SOCK_DGRAM) for _ in PORTS]
    for one, port in zip(servers, PORTS, strict=True):
        one.bind(("0.0.0.0", port))
    node.service(*backends(node, *PORTS), protocol=UDP, stay_seconds=LONG)
    client = node.make_socket("client", V4, socket.SOCK_DGRAM)
    found: set[int] = set()
    for _ in range(MANY):
        client.sendto(b"x", (str(VIP), 80))
        (server,), _, _ = select.select(servers, [], [], 5)
        server.recv(8)
        found.add(server.getsockname()[1])
    assert len(found) == 1
