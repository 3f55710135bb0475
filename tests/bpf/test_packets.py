"""UDP, ICMP and raw packets at the pods' cgroup."""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from penstock.bpf.abi import EventKind, Reason
from penstock.bpf.model import BpfEvent
from penstock.ir.policy import TCP, UDP
from support.kernel_node import (
    ALLOW,
    DENY,
    IDENTITY,
    IN,
    OUT,
    PROXY,
    V4,
    V6,
    Node,
    entry,
    error_of,
    refused,
    wait_for,
)
from support.topology import NODE_IPV6

FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])
PORT = 5300


def udp_server(node: Node, family: int = V4, pod: str = "server") -> socket.socket:
    server = node.make_socket(pod, family, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0" if family == V4 else "::", PORT))
    return server


def is_silent(server: socket.socket) -> bool:
    """Return whether nothing has arrived; ask once the drop is known."""
    timeout = server.gettimeout()
    server.setblocking(False)
    try:
        server.recv(64)
    except BlockingIOError:
        return True
    finally:
        server.settimeout(timeout)
    return False


@FAMILIES
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
def test_denied_udp_is_refused_to_its_sender(node: Node, family: int, *, connected: bool) -> None:
    server = udp_server(node, family)
    target = (str(node.address("server", family)), PORT)
    node.policy("client", entry(OUT, "server", DENY, port=PORT, protocol=UDP))
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    if connected:
        assert refused(lambda: client.connect(target))
    else:
        assert refused(lambda: client.sendto(b"x", target))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert (event.protocol, event.destination_port) == (UDP, PORT)
    assert is_silent(server)


@FAMILIES
def test_datagram_that_the_server_does_not_allow_is_dropped_there(node: Node, family: int) -> None:
    server = udp_server(node, family)
    node.policy("server", entry(IN, "other", ALLOW, port=PORT, protocol=UDP), ingress=DENY)
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    client.sendto(b"x", (str(node.address("server", family)), PORT))
    (event,) = node.events_of(EventKind.DATAGRAM_DROPPED)
    assert (event.direction, event.reason) == (IN, Reason.DEFAULT_DENY)
    assert (event.source, event.source_identity) == (
        node.address("client", family),
        IDENTITY["client"],
    )
    assert (event.destination, event.destination_port) == (node.address("server", family), PORT)
    assert event.destination_identity == IDENTITY["server"]
    assert is_silent(server)
    other = node.make_socket("other", family, socket.SOCK_DGRAM)
    other.sendto(b"x", (str(node.address("server", family)), PORT))
    assert server.recv(64)


@FAMILIES
def test_answer_passes_though_both_ends_deny_what_is_not_asked_for(node: Node, family: int) -> None:
    server = udp_server(node, family)
    node.policy(
        "client", entry(OUT, "server", ALLOW, port=PORT, protocol=UDP), ingress=DENY, egress=DENY
    )
    node.policy(
        "server", entry(IN, "client", ALLOW, port=PORT, protocol=UDP), ingress=DENY, egress=DENY
    )
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    client.bind(("0.0.0.0" if family == V4 else "::", 42000))
    asked = (str(node.address("client", family)), 42000)
    assert refused(lambda: server.sendto(b"unasked", asked))
    client.sendto(b"question", (str(node.address("server", family)), PORT))
    assert server.recvfrom(64)[1][:2] == asked
    server.sendto(b"answer", asked)
    assert client.recv(64) == b"answer"
    connected = node.make_socket("server", family, socket.SOCK_DGRAM)
    assert refused(lambda: connected.connect(asked))


def test_server_may_connect_to_the_client_that_asked(node: Node) -> None:
    server = udp_server(node)
    node.policy("server", ingress=ALLOW, egress=DENY)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    client.sendto(b"question", (str(node.address("server")), PORT))
    server.connect(server.recvfrom(64)[1])
    server.send(b"answer")
    assert client.recv(64) == b"answer"


def test_answer_is_dropped_once_the_question_is_denied(node: Node) -> None:
    server = udp_server(node)
    node.policy("client", entry(OUT, "server", ALLOW), ingress=DENY, egress=DENY)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    client.sendto(b"question", (str(node.address("server")), PORT))
    sender = server.recvfrom(64)[1]
    node.policy("client", ingress=DENY, egress=DENY)
    server.sendto(b"answer", sender)
    (event,) = node.events_of(EventKind.DATAGRAM_DROPPED)
    assert (event.direction, event.netns_cookie) == (IN, node.cookie("client"))
    assert is_silent(client)


def test_question_does_not_count_as_an_answer_to_itself(node: Node) -> None:
    server = udp_server(node)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    target = (str(node.address("server")), PORT)
    client.sendto(b"question", target)
    assert server.recv(64)
    node.policy("client", ingress=ALLOW, egress=DENY)
    assert refused(lambda: client.sendto(b"question", target))
    assert refused(lambda: client.connect(target))


def test_answer_from_another_port_is_not_one(node: Node) -> None:
    server = udp_server(node)
    node.policy("client", entry(OUT, 0, ALLOW), ingress=DENY, egress=DENY)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    client.sendto(b"question", (str(node.address("server")), PORT))
    sender = server.recvfrom(64)[1]
    node.make_socket("server", kind=socket.SOCK_DGRAM).sendto(b"x", sender)
    node.make_socket("other", kind=socket.SOCK_DGRAM).sendto(b"x", sender)
    dropped: list[BpfEvent] = []
    while len(dropped) < 2:
        dropped += node.events_of(EventKind.DATAGRAM_DROPPED)
    assert is_silent(client)


def test_connected_udp_is_cut_when_policy_changes(node: Node) -> None:
    server = udp_server(node)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    client.connect((str(node.address("server")), PORT))
    client.send(b"x")
    assert server.recv(64)
    node.policy("client", egress=DENY)
    assert error_of(lambda: client.send(b"x")) == "EPERM"
    assert is_silent(server)


def test_l7_policy_on_udp_is_closed(node: Node) -> None:
    udp_server(node)
    node.policy("client", entry(OUT, "server", PROXY))
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    assert refused(lambda: client.sendto(b"x", (str(node.address("server")), PORT)))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.NOT_PROXIABLE


def test_udp_on_loopback_is_never_judged(node: Node) -> None:
    node.policy("client", ingress=DENY, egress=DENY)
    server = udp_server(node, pod="client")
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    for host in ("127.0.0.1", str(node.address("client"))):
        client.sendto(b"x", (host, PORT))
        assert server.recv(64)


def test_datagram_from_the_node_always_arrives(node: Node) -> None:
    server = udp_server(node)
    node.policy("server", ingress=DENY, egress=DENY)
    probe = node.make_socket("node", kind=socket.SOCK_DGRAM, cgroup="other")
    probe.sendto(b"probe", (str(node.address("server")), PORT))
    sender = server.recvfrom(64)[1]
    server.sendto(b"answer", sender)
    assert probe.recv(64) == b"answer"


def icmp_socket(node: Node, family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == V4 else socket.IPPROTO_ICMPV6
    return node.topology.actor("client", "pod").socket(family, socket.SOCK_RAW, protocol)


def receive_type(raw: socket.socket, wanted: int) -> None:
    """Return when an ICMP message of that type comes; TimeoutError if none does."""
    at = 20 if raw.family == V4 else 0
    while raw.recv(256)[at] != wanted:
        pass


def ping(node: Node, family: int) -> None:
    """Send an echo request from the client to the server and wait for the reply."""
    request, reply = (8, 0) if family == V4 else (128, 129)
    message = struct.pack("!BBHHH", request, 0, 0, 1, 1)
    checksum = ~sum(struct.unpack("!4H", message)) & 0xFFFF
    message = struct.pack("!BBHHH", request, 0, checksum, 1, 1)
    with icmp_socket(node, family) as raw:
        raw.sendto(message, (str(node.address("server", family)), 0))
        receive_type(raw, reply)


@FAMILIES
def test_ping_is_answered_where_both_ends_allow_the_peer(node: Node, family: int) -> None:
    node.policy("client", entry(OUT, "server", ALLOW), ingress=DENY, egress=DENY)
    node.policy("server", entry(IN, "client", ALLOW), ingress=DENY, egress=DENY)
    ping(node, family)
    assert node.events.read() == []


@FAMILIES
def test_ping_needs_more_than_a_port(node: Node, family: int) -> None:
    node.policy("client", entry(OUT, "server", ALLOW, port=80, protocol=TCP), egress=DENY)
    assert error_of(lambda: ping(node, family)) == "EPERM"
    (event,) = node.events_of(EventKind.DATAGRAM_DROPPED)
    assert (event.direction, event.reason) == (OUT, Reason.DEFAULT_DENY)
    assert event.protocol == (1 if family == V4 else 58)


@FAMILIES
def test_ping_is_dropped_where_the_server_denies_the_client(node: Node, family: int) -> None:
    node.policy("server", entry(IN, "client", DENY))
    assert error_of(lambda: ping(node, family)) == "EPERM"


def test_error_about_a_datagram_reaches_its_sender(node: Node) -> None:
    node.policy("client", entry(OUT, "server", ALLOW), ingress=DENY, egress=DENY)
    client = node.make_socket("client", kind=socket.SOCK_DGRAM)
    client.connect((str(node.address("server")), PORT))
    client.send(b"x")
    assert wait_for(
        lambda: client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    )


@FAMILIES
def test_icmp_errors_pass_though_policy_is_closed(node: Node, family: int) -> None:
    node.policy(
        "client", entry(OUT, "server", ALLOW, port=PORT, protocol=UDP), ingress=DENY, egress=DENY
    )
    client = node.make_socket("client", family, socket.SOCK_DGRAM)
    with icmp_socket(node, family) as raw:
        client.sendto(b"x", (str(node.address("server", family)), PORT))
        receive_type(raw, 3 if family == V4 else 1)
    assert node.events.read() == []


def raw_ipv4(
    source: str, destination: str, protocol: int, payload: bytes, fragment: int = 0
) -> bytes:
    """Return an IPv4 packet; the kernel fills in checksum and length."""
    return struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0,
        socket.inet_aton(source), socket.inet_aton(destination),
    ) + payload  # fmt: skip


def raw_socket(node: Node) -> socket.socket:
    return node.topology.actor("client", "pod").socket(V4, socket.SOCK_RAW, socket.IPPROTO_RAW)


SYN = struct.pack("!HHIIBBHHH", 43000, 8080, 1, 0, 0x50, 0x02, 64240, 0, 0)
DATAGRAM = struct.pack("!HHHH", 43000, PORT, 8, 0)


@pytest.mark.parametrize(
    ("protocol", "payload", "fragment"),
    [(TCP, SYN, 0), (UDP, DATAGRAM, 0), (UDP, DATAGRAM, 100), (47, b"gre", 0), (132, SYN, 0)],
    ids=["tcp", "udp", "fragment", "gre", "sctp"],
)
def test_raw_packets_are_judged(node: Node, protocol: int, payload: bytes, fragment: int) -> None:
    node.policy("client", entry(OUT, "other", ALLOW), egress=DENY)
    source, target = str(node.address("client")), str(node.address("server"))
    packet = raw_ipv4(source, target, protocol, payload, fragment)
    with raw_socket(node) as raw:
        assert error_of(lambda: raw.sendto(packet, (target, 0))) == "EPERM"
        node.policy("client", entry(OUT, "server", ALLOW), egress=DENY)
        assert error_of(lambda: raw.sendto(packet, (target, 0))) == ""


def test_later_fragment_has_no_ports(node: Node) -> None:
    node.policy("client", entry(OUT, "server", ALLOW, port=PORT, protocol=UDP), egress=DENY)
    source, target = str(node.address("client")), str(node.address("server"))
    with raw_socket(node) as raw:
        packet = raw_ipv4(source, target, UDP, DATAGRAM)
        assert error_of(lambda: raw.sendto(packet, (target, 0))) == ""
        packet = raw_ipv4(source, target, UDP, DATAGRAM, 100)
        assert error_of(lambda: raw.sendto(packet, (target, 0))) == "EPERM"


@pytest.mark.parametrize("count", [1, 6, 7])
def test_packet_with_too_many_extension_headers_is_dropped(node: Node, count: int) -> None:
    options, destination_options = struct.pack("!BB4s", 1, 4, bytes(4)), 60
    headers = b"".join(
        struct.pack("!BB", UDP if last else destination_options, 0) + options
        for last in (index == count - 1 for index in range(count))
    )
    payload = headers + DATAGRAM
    source, target = node.address("client", V6), node.address("server", V6)
    packet = struct.pack("!IHBB", 6 << 28, len(payload), destination_options, 64)
    packet += source.packed + target.packed + payload
    raw = node.topology.actor("client", "pod").socket(V6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        expected = "EPERM" if count > 6 else ""
        assert error_of(lambda: raw.sendto(packet, (str(target), 0))) == expected
    reasons = [event.reason for event in node.events.read()]
    assert reasons == ([Reason.UNREADABLE] if expected else [])


def test_forged_source_address_is_dropped(node: Node) -> None:
    target = str(node.address("server"))
    packet = raw_ipv4("10.77.9.9", target, UDP, DATAGRAM)
    with raw_socket(node) as raw:
        assert error_of(lambda: raw.sendto(packet, (target, 0))) == "EPERM"
    (event,) = node.events_of(EventKind.DATAGRAM_DROPPED)
    assert event.reason is Reason.FOREIGN_ADDRESS


@pytest.mark.parametrize("forged", ["other", "server", "node", "nobody"])
def test_foreign_address_that_a_socket_may_bind_is_dropped(node: Node, forged: str) -> None:
    freebind = 78  # IPV6_FREEBIND, which needs no right
    server = udp_server(node, V6)
    addresses = {"node": str(NODE_IPV6), "nobody": "fd00:dead::1"}
    client = node.make_socket("client", V6, socket.SOCK_DGRAM)
    client.setsockopt(socket.IPPROTO_IPV6, freebind, 1)
    client.bind((addresses.get(forged) or str(node.address(forged, V6)), 0))
    assert error_of(lambda: client.sendto(b"x", (str(node.address("server", V6)), PORT))) == "EPERM"
    (event,) = node.events_of(EventKind.DATAGRAM_DROPPED)
    assert event.reason == Reason.FOREIGN_ADDRESS
    assert is_silent(server)


def test_ports_behind_ipv6_extension_headers_are_found(node: Node) -> None:
    server = udp_server(node, V6)
    node.policy("client", entry(OUT, "server", ALLOW, port=PORT, protocol=UDP), egress=DENY)
    client = node.make_socket("client", V6, socket.SOCK_DGRAM)
    padding = struct.pack("!BBBB4s", 0, 0, 1, 4, bytes(4))  # destination options: one PadN
    client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, padding)
    target = str(node.address("server", V6))
    client.connect((target, PORT))
    client.send(b"x")
    assert server.recv(64)
    node.policy("client", entry(OUT, "server", ALLOW, port=PORT + 1, protocol=UDP), egress=DENY)
    assert error_of(lambda: client.send(b"x")) == "EPERM"
