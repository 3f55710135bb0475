"""Services that the kernel balances, and proxied services whose backends are all denied."""

from __future__ import annotations

import select
import socket
import threading
from collections import Counter
from ipaddress import IPv4Address

import pytest

from penstock.bpf.abi import EventKind, Reason
from penstock.bpf.model import Backend
from penstock.ir.policy import UDP
from support.fake_proxy import original_destination
from support.kernel_node import (
    ALLOW,
    APP_PORT,
    DENY,
    IN,
    OUT,
    PROXY,
    V4,
    V6,
    VIP,
    VIP6,
    Node,
    entry,
    refused,
)


def test_connections_follow_the_weights(node: Node) -> None:
    servers = {port: node.listen("server", port=port) for port in (8081, 8082, 8083)}
    weights = {8081: 90, 8082: 10, 8083: 0}
    node.service(*(node.backend("server", port=p, weight=w) for p, w in weights.items()))
    chosen: Counter[int] = Counter()
    for _ in range(2000):
        with node.connect("client", VIP, 80) as client:
            assert client.getpeername() == (str(VIP), 80)
        ready, _, _ = select.select(list(servers.values()), [], [], 5)
        (listener,) = ready
        listener.accept()[0].close()
        chosen[listener.getsockname()[1]] += 1
    assert chosen.total() == 2000
    assert abs(chosen[8081] - 1800) < 90  # 6.7 standard deviations
    assert chosen[8083] == 0


def test_service_of_4096_backends_reaches_first_and_last(node: Node) -> None:
    listener = node.listen("server")
    dead = [Backend(IPv4Address("10.99.0.0") + n, APP_PORT, 0) for n in range(4095)]
    for backends in ([*dead, node.backend("server")], [node.backend("server"), *dead]):
        node.service(*backends)
        node.connect("client", VIP, 80)
        node.accept(listener)


def test_each_family_has_its_own_backends(node: Node) -> None:
    listeners = [node.listen("server"), node.listen("server", V6)]
    node.service(node.backend("server"), node.backend("server", V6))
    assert node.connect("client", VIP, 80).getpeername() == (str(VIP), 80)
    assert node.connect("client", VIP6, 80).getpeername()[:2] == (str(VIP6), 80)
    for listener in listeners:
        node.accept(listener)


@pytest.mark.parametrize("weight", [None, 0])
def test_service_without_usable_backend_refuses(node: Node, weight: int | None) -> None:
    backends = () if weight is None else (node.backend("server", weight=weight),)
    node.service(*backends)
    assert refused(lambda: node.connect("client", VIP, 80))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert (event.reason, event.requested) == (Reason.NO_BACKEND, VIP)


def test_verdict_is_about_the_backend_and_its_port(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"))
    node.policy("client", entry(OUT, "server", ALLOW, port=APP_PORT, protocol=6), egress=DENY)
    node.connect("client", VIP, 80)
    node.accept(listener)
    node.policy("client", entry(OUT, "server", ALLOW, port=80, protocol=6), egress=DENY)
    assert refused(lambda: node.connect("client", VIP, 80))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert (event.destination, event.destination_port) == (node.address("server"), APP_PORT)
    assert (event.requested, event.requested_port) == (VIP, 80)


def test_backend_under_l7_policy_is_redirected_with_the_virtual_ip(node: Node) -> None:
    node.service(node.backend("server"))
    node.policy("client", entry(OUT, "server", PROXY, port=APP_PORT, protocol=6))
    node.connect("client", VIP, 80)
    with node.proxies["client"].accept_egress() as accepted:
        assert original_destination(accepted) == (VIP, 80)


def test_pod_reaches_itself_through_its_service_whatever_policy_says(node: Node) -> None:
    listener = node.listen("client")
    node.service(node.backend("client"))
    node.policy("client", ingress=DENY, egress=DENY)
    node.connect("client", VIP, 80)
    assert node.accept(listener).getpeername()[0] == str(node.address("client"))


def test_proxied_service_is_refused_if_every_backend_is_denied_at_egress(node: Node) -> None:
    node.service(node.backend("server"), node.backend("other"), proxy=True)
    node.policy("client", entry(OUT, "server", DENY), entry(OUT, "other", DENY))
    assert refused(lambda: node.connect("client", VIP, 80))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.BACKENDS_DENIED


def test_proxied_service_is_refused_if_every_server_denies_at_ingress(node: Node) -> None:
    node.service(node.backend("server"), node.backend("other"), proxy=True)
    node.policy("server", entry(IN, "client", DENY, port=APP_PORT, protocol=6))
    node.policy("other", ingress=DENY)
    assert refused(lambda: node.connect("client", VIP, 80))


def test_proxied_service_is_redirected_if_one_backend_is_not_denied(node: Node) -> None:
    node.service(node.backend("server"), node.backend("other"), proxy=True)
    node.policy("client", entry(OUT, "server", DENY))
    node.connect("client", VIP, 80)
    node.proxies["client"].accept_egress().close()


def test_proxied_service_whose_backend_is_the_client_itself_is_not_refused(node: Node) -> None:
    node.service(node.backend("client"), proxy=True)
    node.policy("client", ingress=DENY, egress=DENY)
    node.connect("client", VIP, 80)
    node.proxies["client"].accept_egress().close()


@pytest.mark.parametrize("count", [0, 17])
def test_proxied_service_with_none_or_too_many_backends_is_left_to_the_proxy(
    node: Node, count: int
) -> None:
    node.service(*(node.backend("server", port=9000 + n) for n in range(count)), proxy=True)
    node.policy("client", egress=DENY)
    node.connect("client", VIP, 80)
    node.proxies["client"].accept_egress().close()


def test_server_whose_policy_is_not_on_this_node_is_left_to_its_own_node(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    node.datapath.remove_policy(1002)
    node.connect("client", VIP, 80)
    node.proxies["client"].accept_egress().close()


def test_no_connect_fails_while_backends_change(node: Node) -> None:
    listener = node.listen("server")
    stop = threading.Event()
    switches = 0

    def switch() -> None:
        nonlocal switches
        while not stop.is_set():
            switches += 1
            node.service(*[node.backend("server", weight=switches % 100 + 1)] * (switches % 7 + 1))

    node.service(node.backend("server"))  # before somebody asks for it
    thread = threading.Thread(target=switch)
    thread.start()
    try:
        for _ in range(1500):
            node.connect("client", VIP, 80).close()
            listener.accept()[0].close()
    finally:
        stop.set()
        thread.join()
    assert switches > 100
    assert node.events.read() == []


@pytest.mark.parametrize(("family", "vip"), [(V4, VIP), (V6, VIP6)], ids=["ipv4", "ipv6"])
def test_unconnected_udp_sees_answers_from_the_virtual_ip(
    node: Node, family: int, vip: IPv4Address
) -> None:
    server = node.make_socket("server", family, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0" if family == V4 else "::", 53))
    node.service(node.backend("server", family, port=53), protocol=UDP, port=5353)
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    client.sendto(b"question", (str(vip), 5353))
    question, sender = server.recvfrom(64)
    server.sendto(b"answer", sender)
    assert question == b"question"
    answer, source = client.recvfrom(64)
    assert (answer, source[:2]) == (b"answer", (str(vip), 5353))


@pytest.mark.parametrize(("family", "vip"), [(V4, VIP), (V6, VIP6)], ids=["ipv4", "ipv6"])
def test_connected_udp_sees_the_virtual_ip_as_its_peer(
    node: Node, family: int, vip: IPv4Address
) -> None:
    server = node.make_socket("server", family, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0" if family == V4 else "::", 53))
    node.service(node.backend("server", family, port=53), protocol=UDP, port=5353)
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    client.connect((str(vip), 5353))
    assert client.getpeername()[:2] == (str(vip), 5353)
    client.send(b"question")
    server.sendto(b"answer", server.recvfrom(64)[1])
    assert client.recvfrom(64)[1][:2] == (str(vip), 5353)


def test_ipv4_service_on_an_ipv6_udp_socket(node: Node) -> None:
    server = node.make_socket("server", kind=socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))
    node.service(node.backend("server", port=53), protocol=UDP, port=5353)
    client = node.make_socket("client", V6, socket.SOCK_DGRAM)
    client.sendto(b"question", (f"::ffff:{VIP}", 5353))
    server.sendto(b"answer", server.recvfrom(64)[1])
    assert client.recvfrom(64)[1][:2] == (f"::ffff:{VIP}", 5353)


def test_removed_service_is_an_ordinary_address(node: Node) -> None:
    service = node.service(node.backend("server"), proxy=True)
    node.datapath.remove_service(service)
    node.policy("client", egress=DENY)
    assert refused(lambda: node.connect("client", VIP, 80))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.DEFAULT_DENY
    assert node.datapath.services() == set()
