"""connect() of pods: verdicts, redirection, IPv4, IPv6 and IPv4 in IPv6 sockets."""

from __future__ import annotations

import os
import socket
from functools import partial
from ipaddress import IPv4Address, IPv6Address

import pytest

from penstock.bpf.abi import EGRESS_PORT, INGRESS_PORT, EventKind, Reason
from penstock.ir.policy import TCP, UDP
from support.fake_proxy import original_destination
from support.kernel_node import (
    ALLOW,
    APP_PORT,
    DENY,
    IDENTITY,
    IN,
    OUT,
    PROXY,
    V4,
    V6,
    VIP,
    VIP6,
    Node,
    entry,
    error_of,
    refused,
    wait_for,
)

FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])


def vip(family: int) -> IPv4Address | IPv6Address:
    return VIP if family == V4 else VIP6


@FAMILIES
def test_allowed_connect_goes_straight_to_the_server(node: Node, family: int) -> None:
    listener = node.listen("server", family)
    client = node.connect("client", node.address("server", family), APP_PORT)
    assert client.getpeername()[:2] == (str(node.address("server", family)), APP_PORT)
    assert node.accept(listener).getpeername()[0] == str(node.address("client", family))


@FAMILIES
def test_denied_connect_is_refused_at_once_and_reported(node: Node, family: int) -> None:
    node.listen("server", family)
    node.policy("client", entry(OUT, "server", DENY))
    target = node.address("server", family)
    assert refused(lambda: node.connect("client", target, APP_PORT))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.DENY_ENTRY
    assert event.direction is OUT
    assert (event.source, event.source_identity) == (
        node.address("client", family),
        IDENTITY["client"],
    )
    assert (event.destination, event.destination_port) == (target, APP_PORT)
    assert event.requested == target
    assert event.destination_identity == IDENTITY["server"]
    assert event.protocol == TCP
    assert event.pid == os.getpid()
    assert event.comm
    assert event.timestamp_ns > 0
    assert event.netns_cookie == node.cookie("client")
    assert node.datapath.counters()["connects_denied"] == 1


@FAMILIES
def test_proxied_connect_is_redirected_to_loopback_of_its_family(node: Node, family: int) -> None:
    node.policy("client", entry(OUT, "server", PROXY, port=APP_PORT, protocol=TCP))
    target = (node.address("server", family), APP_PORT)
    client = node.connect("client", *target)
    accepted = node.proxies["client"].accept_egress(family)
    loopback = "127.0.0.1" if family == V4 else "::1"
    assert accepted.getsockname()[:2] == (loopback, EGRESS_PORT)
    assert accepted.getpeername()[0] == loopback
    assert original_destination(accepted) == target
    assert client.getpeername()[:2] == (str(target[0]), APP_PORT)
    accepted.close()


@FAMILIES
def test_original_destination_of_a_proxied_service_is_its_virtual_ip(
    node: Node, family: int
) -> None:
    node.service(node.backend("server", family), proxy=True)
    client = node.connect("client", vip(family), 80)
    with node.proxies["client"].accept_egress(family) as accepted:
        assert original_destination(accepted) == (vip(family), 80)
    assert client.getpeername()[:2] == (str(vip(family)), 80)


def test_ipv4_address_on_an_ipv6_socket_is_judged_like_ipv4(node: Node) -> None:
    node.listen("server")
    node.policy("client", entry(OUT, "server", DENY))
    mapped = node.make_socket("client", V6)
    target = (f"::ffff:{node.address('server')}", APP_PORT)
    assert refused(lambda: mapped.connect(target))


def test_ipv4_address_on_an_ipv6_socket_is_redirected_to_ipv4_loopback(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    mapped = node.make_socket("client", V6)
    mapped.connect((f"::ffff:{VIP}", 80))
    with node.proxies["client"].accept_egress(V4) as accepted:
        assert original_destination(accepted) == (VIP, 80)
    assert mapped.getpeername()[:2] == (f"::ffff:{VIP}", 80)


def test_ipv4_address_on_an_ipv6_socket_is_balanced(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"))
    mapped = node.make_socket("client", V6)
    mapped.connect((f"::ffff:{VIP}", 80))
    assert node.accept(listener).getpeername()[0] == str(node.address("client"))
    assert mapped.getpeername()[:2] == (f"::ffff:{VIP}", 80)


def test_ipv6_only_socket_is_redirected_within_ipv6(node: Node) -> None:
    node.service(node.backend("server", V6), proxy=True)
    only = node.make_socket("client", V6)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    only.connect((str(VIP6), 80))
    with node.proxies["client"].accept_egress(V6) as accepted:
        assert original_destination(accepted) == (VIP6, 80)


def test_ipv6_only_socket_cannot_reach_a_mapped_service(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    only = node.make_socket("client", V6)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    assert error_of(lambda: only.connect((f"::ffff:{VIP}", 80))) == "ENETUNREACH"


def test_same_source_port_in_two_pods_keeps_two_original_destinations(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    node.service(node.backend("server"), proxy=True, port=81)
    for pod, port in (("client", 80), ("other", 81)):
        made = node.make_socket(pod)
        made.bind(("127.0.0.1", 40000))
        made.connect((str(VIP), port))
    with (
        node.proxies["client"].accept_egress() as one,
        node.proxies["other"].accept_egress() as two,
    ):
        assert one.getpeername() == two.getpeername() == ("127.0.0.1", 40000)
        assert original_destination(one) == (VIP, 80)
        assert original_destination(two) == (VIP, 81)


def test_deny_beats_proxy_and_allow_of_every_width(node: Node) -> None:
    node.listen("server")
    wide = (
        entry(OUT, 0, ALLOW),
        entry(OUT, "server", PROXY, port=APP_PORT, protocol=TCP),
        entry(OUT, "server", ALLOW, protocol=TCP),
    )
    target = node.address("server")
    for denial in (
        entry(OUT, 0, DENY, port=APP_PORT, protocol=TCP),
        entry(OUT, 0, DENY, protocol=TCP),
        entry(OUT, "server", DENY, protocol=TCP),
        entry(OUT, "server", DENY, port=APP_PORT, protocol=TCP),
        entry(OUT, "server", DENY, port=APP_PORT),
    ):
        node.policy("client", *wide, denial)
        assert refused(lambda: node.connect("client", target, APP_PORT)), denial


def test_proxy_beats_allow(node: Node) -> None:
    node.policy(
        "client",
        entry(OUT, "server", ALLOW, port=APP_PORT, protocol=TCP),
        entry(OUT, 0, PROXY, port=APP_PORT, protocol=TCP),
        egress=DENY,
    )
    node.connect("client", node.address("server"), APP_PORT)
    node.proxies["client"].accept_egress().close()


def test_default_deny_leaves_what_an_entry_allows(node: Node) -> None:
    node.listen("server")
    node.listen("server", port=9090)
    node.policy("client", entry(OUT, "server", ALLOW, port=APP_PORT, protocol=TCP), egress=DENY)
    node.connect("client", node.address("server"), APP_PORT)
    assert refused(lambda: node.connect("client", node.address("server"), 9090))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.DEFAULT_DENY


def test_verdict_on_one_port_does_not_reach_the_same_port_of_another_protocol(node: Node) -> None:
    node.listen("server")
    node.policy("client", entry(OUT, "server", DENY, port=APP_PORT, protocol=UDP))
    node.connect("client", node.address("server"), APP_PORT)


def test_identity_without_policy_is_closed_in_both_directions(node: Node) -> None:
    node.listen("server")
    node.listen("client")
    node.datapath.remove_policy(IDENTITY["client"])
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    assert refused(lambda: node.connect("other", node.address("client"), APP_PORT))
    reasons = {event.reason for event in node.events.read()}
    assert reasons == {Reason.NO_POLICY}


def test_socket_of_an_unregistered_namespace_is_refused(node: Node) -> None:
    node.listen("server")
    node.datapath.remove_pod("client")
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.UNKNOWN_POD


def test_loopback_and_own_address_are_never_judged(node: Node) -> None:
    node.policy("client", ingress=DENY, egress=DENY)
    listeners = [node.listen("client"), node.listen("client", V6)]
    for host in ("127.0.0.1", "127.8.9.1", "0.0.0.0", str(node.address("client"))):
        node.connect("client", IPv4Address(host), APP_PORT)
        node.accept(listeners[0])
    for host in ("::1", "::", str(node.address("client", V6))):
        node.connect("client", IPv6Address(host), APP_PORT)
        node.accept(listeners[1])
    assert node.events.read() == []


@pytest.mark.parametrize("port", [EGRESS_PORT, INGRESS_PORT])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_pod_cannot_speak_to_its_own_in_pod_listeners(node: Node, host: str, port: int) -> None:
    made = node.make_socket("client", V6 if ":" in host else V4)
    assert refused(lambda: made.connect((host, port)))
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.PROXY_PORT


def test_process_outside_the_cgroup_has_no_original_destination(node: Node) -> None:
    node.connect("client", IPv4Address("127.0.0.1"), EGRESS_PORT, cgroup="other")
    with node.proxies["client"].accept_egress() as accepted:
        assert error_of(lambda: original_destination(accepted)) in {"ENOENT", "ENOPROTOOPT"}


def test_redirected_connect_is_refused_without_listener(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    node.proxies["client"].close()
    assert refused(lambda: node.connect("client", VIP, 80))


def test_entry_of_the_original_destination_leaves_with_the_connection(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    client = node.connect("client", VIP, 80)
    accepted = node.proxies["client"].accept_egress()
    assert node.entries("original_destinations") == 1
    client.close()
    accepted.close()
    assert wait_for(lambda: node.entries("original_destinations") == 0)


def test_socket_that_connects_again_forgets_what_it_asked_for(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    node.proxies["client"].close()
    made = node.make_socket("client")
    made.setblocking(True)  # after EINPROGRESS the kernel allows no second try
    assert refused(lambda: made.connect((str(VIP), 80)))
    listener = node.listen("server")
    made.connect((str(node.address("server")), APP_PORT))
    node.accept(listener)
    assert made.getpeername() == (str(node.address("server")), APP_PORT)
    assert node.entries("original_destinations") == 0


def test_fast_open_is_judged_like_connect(node: Node) -> None:
    node.listen("server")
    node.policy("client", entry(OUT, "server", DENY))
    made = node.make_socket("client")
    target = (str(node.address("server")), APP_PORT)
    assert refused(lambda: made.sendto(b"x", socket.MSG_FASTOPEN, target))


def test_multipath_tcp_is_judged_like_tcp(node: Node) -> None:
    node.listen("server")
    node.policy("client", entry(OUT, "server", DENY, port=APP_PORT, protocol=TCP))
    try:
        made = node.topology.actor("client", "pod").socket(V4, socket.SOCK_STREAM, 262)
    except OSError:
        pytest.skip("the kernel has no MPTCP")
    with made:
        assert refused(lambda: made.connect((str(node.address("server")), APP_PORT)))


def test_redirections_are_reported_only_on_demand(node: Node) -> None:
    node.service(node.backend("server"), proxy=True)
    node.policy("server", ingress=DENY)
    node.policy("server", entry(IN, 0, PROXY), ingress=DENY)
    node.connect("client", VIP, 80)
    assert node.events.read() == []
    node.datapath.report_redirections(enabled=True)
    node.connect("client", VIP, 80)
    node.connect("client", node.address("server"), APP_PORT)
    outward, inward = node.events.read()
    assert (outward.kind, outward.requested, outward.requested_port) == (
        EventKind.REDIRECTED,
        VIP,
        80,
    )
    assert (inward.kind, inward.source_identity) == (
        EventKind.INBOUND_REDIRECTED,
        IDENTITY["client"],
    )


def test_cgroup_of_the_node_itself_is_not_judged(node: Node) -> None:
    node.policy("server", ingress=DENY)
    node.listen("server")
    node.connect("node", node.address("server"), APP_PORT, cgroup="other")


@FAMILIES
@pytest.mark.parametrize("port", [EGRESS_PORT, INGRESS_PORT])
def test_a_pod_cannot_take_the_ports_of_the_in_pod_listeners(
    node: Node, family: int, port: int
) -> None:
    for address in ("", "127.0.0.1" if family == V4 else "::1"):
        taker = node.make_socket("client", family, cgroup="pod")
        assert error_of(partial(taker.bind, (address, port))) == "EADDRINUSE"
    node.make_socket("client", family, cgroup="pod").bind(("", port + 1000))
