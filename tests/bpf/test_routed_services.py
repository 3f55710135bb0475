"""Services whose backends a route chose, and those that are for the pods of one namespace.

The pod *client* is of the namespace "clients", *other* of "others", and so on.
"""

from __future__ import annotations

import select
import socket
from collections import Counter
from ipaddress import IPv4Address, IPv6Address

import msgspec
import pytest

from penstock.bpf.abi import EventKind, Reason
from penstock.bpf.datapath import Datapath
from penstock.bpf.model import Backend
from penstock.bpf.service_table import Frontend
from penstock.ir.policy import TCP, UDP
from support.fake_proxy import original_destination
from support.kernel_node import (
    ALLOW,
    APP_PORT,
    DENY,
    IN,
    OUT,
    V4,
    V6,
    VIP,
    VIP6,
    Node,
    entry,
    refused,
)

NOWHERE = Backend(IPv4Address("0.0.0.0"), 0, 1)
NOWHERE6 = Backend(IPv6Address("::"), 0, 1)


def test_the_share_of_what_is_not_there_is_refused(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server", weight=30), Backend(NOWHERE.address, 0, 10), routed=True)
    seen: Counter[bool] = Counter()
    for _ in range(1000):
        lost = refused(lambda: node.connect("client", VIP, 80).close())
        if not lost:
            listener.accept()[0].close()
        seen[lost] += 1
        if not seen.total() % 100:
            node.events.read()
    assert abs(seen[True] - 250) < 90  # 6.6 standard deviations


@pytest.mark.parametrize(("vip", "lost"), [(VIP, NOWHERE), (VIP6, NOWHERE6)], ids=["ipv4", "ipv6"])
def test_a_refusal_says_that_the_route_leads_nowhere(
    node: Node, vip: IPv4Address | IPv6Address, lost: Backend
) -> None:
    node.service(lost, routed=True)
    assert refused(lambda: node.connect("client", vip, 80))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert (event.reason, event.requested, event.requested_port) == (Reason.NOWHERE, vip, 80)


def test_datagrams_to_nowhere_are_refused(node: Node) -> None:
    node.service(NOWHERE, protocol=UDP, routed=True)
    client = node.make_socket("client", V4, socket.SOCK_DGRAM)
    assert refused(lambda: client.sendto(b"question", (str(VIP), 80)))
    assert refused(lambda: client.connect((str(VIP), 80)))


def test_a_routed_connection_is_reported_with_its_backend(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"), routed=True)
    node.connect("client", VIP, 80)
    node.accept(listener)
    (event,) = node.events_of(EventKind.CONNECT_ROUTED)
    assert (event.destination, event.destination_port) == (node.address("server"), APP_PORT)
    assert (event.requested, event.requested_port) == (VIP, 80)
    assert (event.source_identity, event.destination_identity) == (1001, 1002)


@pytest.mark.parametrize("side", ["egress", "ingress"])
def test_policy_judges_the_backend_that_was_chosen(node: Node, side: str) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"), node.backend("other"), routed=True)
    if side == "egress":
        node.policy("client", entry(OUT, "server", ALLOW, port=APP_PORT, protocol=6), egress=DENY)
    else:
        node.policy("other", entry(IN, "client", DENY))
    reached = 0
    for _ in range(40):
        if not refused(lambda: node.connect("client", VIP, 80).close()):
            reached += 1
    assert 0 < reached < 40
    for _ in range(reached):
        listener.accept()[0].close()
    reasons = {event.reason for event in node.events.read()} - {Reason.NONE}
    assert reasons == {Reason.DEFAULT_DENY if side == "egress" else Reason.DENY_ENTRY}


def test_pods_of_a_namespace_go_by_what_there_is_for_it(node: Node) -> None:
    ours, theirs = node.listen("server", port=8081), node.listen("server", port=8082)
    node.service(node.backend("server", port=8081))
    own = node.service(node.backend("server", port=8082), clients="clients")
    node.connect("client", VIP, 80)
    node.accept(theirs)
    node.connect("other", VIP, 80)
    node.accept(ours)
    assert Frontend(VIP, 80, TCP, "clients") in node.datapath.services()
    node.datapath.remove_service(own)
    node.connect("client", VIP, 80)
    node.accept(ours)


def test_one_namespace_may_be_led_to_envoy_and_the_others_not(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"))
    node.service(node.backend("server"), proxy=True, clients="clients")
    node.connect("client", VIP, 80)
    with node.proxies["client"].accept_egress() as accepted:
        assert original_destination(accepted) == (VIP, 80)
    node.connect("other", VIP, 80)
    node.accept(listener)


@pytest.mark.parametrize(("family", "vip"), [(V4, VIP), (V6, VIP6)], ids=["ipv4", "ipv6"])
def test_datagrams_of_a_namespace_go_by_what_there_is_for_it(
    node: Node, family: int, vip: IPv4Address | IPv6Address
) -> None:
    server = node.make_socket("server", family, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0" if family == V4 else "::", 53))
    node.service(NOWHERE, NOWHERE6, protocol=UDP)
    node.service(node.backend("server", family, port=53), protocol=UDP, clients="clients")
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    client.sendto(b"question", (str(vip), 80))
    server.sendto(b"answer", server.recvfrom(64)[1])
    answer, source = client.recvfrom(64)
    assert (answer, source[:2]) == (b"answer", (str(vip), 80))
    other = node.make_socket("other", family, socket.SOCK_DGRAM)
    assert refused(lambda: other.sendto(b"question", (str(vip), 80)))


def test_another_agent_takes_over_the_numbers_of_namespaces(node: Node) -> None:
    listener = node.listen("server")
    node.service(NOWHERE)
    node.service(node.backend("server"), clients="clients")
    node.datapath.close()
    node.datapath = Datapath.open(node.bpffs)
    assert Frontend(VIP, 80, TCP, "clients") in node.datapath.services()
    assert node.datapath.pods()["client"].namespace == "clients"
    node.connect("client", VIP, 80)
    node.accept(listener)
    assert refused(lambda: node.connect("other", VIP, 80))


def test_a_number_is_given_back_when_nobody_is_of_the_namespace(node: Node) -> None:
    node.datapath.remove_pod("other")
    node.service(node.backend("server"), clients="clients")
    node.datapath.keep_namespaces()
    assert {pod.namespace for pod in node.datapath.pods().values()} == {"clients", "servers"}
    listener = node.listen("server")
    node.connect("client", VIP, 80)
    node.accept(listener)


def test_numbers_of_namespaces_do_not_run_out_as_they_come_and_go(node: Node) -> None:
    moving = node.datapath.pods()["other"]
    for number in range(65_600):
        node.datapath.set_pod(msgspec.structs.replace(moving, namespace=f"moment-{number}"))
    assert node.datapath.pods()["other"].namespace == "moment-65599"
    node.service(NOWHERE)
    node.service(node.backend("server"), clients="moment-65599")
    listener = node.listen("server")
    node.connect("other", VIP, 80)
    node.accept(listener)
    assert refused(lambda: node.connect("client", VIP, 80))


def test_an_open_connection_survives_every_change_of_its_service(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"), routed=True)
    client = node.connect("client", VIP, 80)
    server = node.accept(listener)
    service = node.service(NOWHERE, routed=True)
    node.service(NOWHERE, clients="clients")
    node.datapath.remove_service(service)
    client.sendall(b"ping")
    select.select([server], [], [], 5)
    assert server.recv(4) == b"ping"
