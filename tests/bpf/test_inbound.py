"""Connections to pods: verdict, marks, the ingress listener, and every way around it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from penstock.bpf.abi import (
    EGRESS_PORT,
    HBONE_PORT,
    INGRESS_PORT,
    MARK_APP_LEG,
    MARK_GATEWAY,
    MARK_POLICED,
    MARK_POLICED_GATEWAY,
    EventKind,
    Reason,
)
from penstock.ir.policy import TCP, Reserved
from support.kernel_node import (
    ALLOW,
    APP_PORT,
    DENY,
    IDENTITY,
    IN,
    PROXY,
    V4,
    V6,
    Node,
    entry,
    refused,
    wait_for,
)
from support.topology import NODE_IPV4, NODE_IPV6, Topology, write_sysctls

FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])
LEGS = pytest.mark.parametrize(
    "mark", [MARK_APP_LEG, MARK_POLICED, MARK_POLICED_GATEWAY], ids=["app", "policed", "gateway"]
)


def proxied(node: Node) -> None:
    """Put the server under L7 policy for the client."""
    node.policy("server", entry(IN, "client", PROXY, port=APP_PORT, protocol=TCP), ingress=DENY)


@FAMILIES
def test_connection_under_l7_policy_arrives_at_the_ingress_listener(
    node: Node, family: int
) -> None:
    application = node.listen("server", family)
    proxied(node)
    client = node.connect("client", node.address("server", family), APP_PORT)
    with node.proxies["server"].accept_ingress(family) as accepted:
        assert accepted.getsockname()[:2] == (str(node.address("server", family)), APP_PORT)
        assert accepted.getpeername()[:2] == client.getsockname()[:2]
    application.setblocking(False)
    with pytest.raises(BlockingIOError):
        application.accept()


@FAMILIES
def test_denied_connection_is_reset_and_reported(node: Node, family: int) -> None:
    node.listen("server", family)
    node.policy("server", entry(IN, "client", DENY))
    client = node.make_socket("client", family)
    client.bind((str(node.address("client", family)), 41000))
    assert refused(lambda: client.connect((str(node.address("server", family)), APP_PORT)))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert (event.reason, event.direction, event.protocol) == (Reason.DENY_ENTRY, IN, TCP)
    assert (event.source, event.source_port) == (node.address("client", family), 41000)
    assert (event.destination, event.destination_port) == (node.address("server", family), APP_PORT)
    assert event.source_identity == IDENTITY["client"]
    assert event.destination_identity == IDENTITY["server"]
    assert event.netns_cookie == node.cookie("server")
    assert (event.pid, event.comm) == (0, "")


@FAMILIES
def test_process_outside_the_cgroup_is_judged_at_the_server(node: Node, family: int) -> None:
    node.listen("server", family)
    node.policy("client", egress=DENY)
    node.policy("server", entry(IN, "client", DENY))
    target = node.address("server", family)
    assert refused(lambda: node.connect("client", target, APP_PORT, cgroup="other"))
    proxied(node)
    node.connect("client", target, APP_PORT, cgroup="other")
    node.proxies["server"].accept_ingress(family).close()


def test_server_outside_the_cgroup_is_covered_too(node: Node) -> None:
    node.listen("server", cgroup="other")
    node.policy("server", entry(IN, "client", DENY))
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))


@LEGS
@pytest.mark.parametrize("cgroup", ["pod", "other"])
def test_mark_that_a_pod_sets_itself_is_worth_nothing(node: Node, mark: int, cgroup: str) -> None:
    node.listen("server")
    proxied(node)
    node.connect("client", node.address("server"), APP_PORT, cgroup=cgroup, mark=mark)
    node.proxies["server"].accept_ingress().close()
    node.policy("server", entry(IN, "client", DENY))
    target = node.address("server")
    assert refused(lambda: node.connect("client", target, APP_PORT, cgroup=cgroup, mark=mark))
    assert node.entries("marked_legs") == 0


@FAMILIES
def test_policed_leg_of_envoy_replaces_the_ingress_listener(node: Node, family: int) -> None:
    application = node.listen("server", family)
    proxied(node)
    target = node.address("server", family)
    node.connect("client", target, APP_PORT, cgroup="envoy", mark=MARK_POLICED)
    assert node.accept(application).getpeername()[0] == str(node.address("client", family))
    assert node.datapath.counters()["inbound_policed"] == 1


def test_leg_of_envoy_without_mark_has_no_privilege(node: Node) -> None:
    node.listen("server")
    proxied(node)
    for mark in (0, 2, 0x9E560002, 0x9E570000):
        node.connect("client", node.address("server"), APP_PORT, cgroup="envoy", mark=mark)
        node.proxies["server"].accept_ingress().close()
        assert node.entries("marked_legs") == (mark == 0x9E570000)


def test_l4_deny_beats_the_policed_mark(node: Node) -> None:
    node.listen("server")
    target = node.address("server")
    for policy in (
        [entry(IN, "client", DENY), entry(IN, "client", PROXY, port=APP_PORT, protocol=TCP)],
        [entry(IN, "other", PROXY, port=APP_PORT, protocol=TCP)],
    ):
        node.policy("server", *policy, ingress=DENY)
        assert refused(
            lambda: node.connect("client", target, APP_PORT, cgroup="envoy", mark=MARK_POLICED)
        )


def test_gateway_leg_is_judged_as_ingress_identity(node: Node) -> None:
    application = node.listen("server")
    target = node.address("server")

    def gateway() -> socket.socket:
        return node.connect("node", target, APP_PORT, cgroup="envoy", mark=MARK_POLICED_GATEWAY)

    node.policy("server", entry(IN, "client", ALLOW), ingress=DENY)
    assert refused(gateway)
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.source_identity == Reserved.INGRESS
    for verdict in (ALLOW, PROXY):
        node.policy("server", entry(IN, Reserved.INGRESS, verdict), ingress=DENY)
        gateway()
        node.accept(application)


def test_leg_of_a_gateway_that_nobody_has_judged_is_judged_as_ingress_identity(
    node: Node,
) -> None:
    application = node.listen("server")
    target = node.address("server")

    def gateway() -> socket.socket:
        return node.connect("node", target, APP_PORT, cgroup="envoy", mark=MARK_GATEWAY)

    node.policy("server", entry(IN, Reserved.INGRESS, ALLOW), ingress=DENY)
    gateway()
    node.accept(application)
    node.policy("server", entry(IN, "client", ALLOW), ingress=DENY)
    assert refused(gateway)
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.source_identity == Reserved.INGRESS
    node.policy("server", entry(IN, Reserved.INGRESS, PROXY), ingress=DENY)
    gateway()
    node.proxies["server"].accept_ingress().close()


def test_app_leg_by_mark_passes_from_the_node(node: Node) -> None:
    application = node.listen("server")
    node.policy("server", entry(IN, 0, PROXY), ingress=DENY)
    node.datapath.remove_identity(NODE_IPV4)
    target = node.address("server")
    node.connect("node", target, APP_PORT, cgroup="envoy")
    node.proxies["server"].accept_ingress().close()
    node.connect("node", target, APP_PORT, cgroup="envoy", mark=MARK_APP_LEG)
    node.accept(application)


@FAMILIES
def test_own_leg_of_the_listener_passes_by_its_two_equal_addresses(node: Node, family: int) -> None:
    application = node.listen("server", family)
    proxied(node)
    node.connect("server", node.address("server", family), APP_PORT, cgroup="envoy")
    node.accept(application)


@LEGS
@FAMILIES
@pytest.mark.parametrize("port", [EGRESS_PORT, INGRESS_PORT, HBONE_PORT])
def test_nobody_outside_reaches_the_in_pod_listeners(
    node: Node, port: int, family: int, mark: int
) -> None:
    node.listen("server", family, port=HBONE_PORT, cgroup="envoy")
    target = node.address("server", family)
    assert refused(lambda: node.connect("client", target, port))
    assert refused(lambda: node.connect("client", target, port, cgroup="other"))
    assert refused(lambda: node.connect("node", target, port, cgroup="other"))
    if mark != MARK_APP_LEG:
        assert refused(lambda: node.connect("client", target, port, cgroup="envoy", mark=mark))
    reasons = {event.reason for event in node.events.read()}
    assert reasons == {Reason.PROXY_PORT}


@FAMILIES
def test_l7_policy_without_listener_is_closed_and_heals_without_agent(
    node: Node, family: int
) -> None:
    node.listen("server", family)
    proxied(node)
    target = node.address("server", family)
    assert node.datapath.listening(node.cookie("server")) == {V4, V6}
    node.proxies["server"].close()
    assert node.datapath.listening(node.cookie("server")) == set()
    assert refused(lambda: node.connect("client", target, APP_PORT))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.reason is Reason.NO_LISTENER
    node.start_proxy("server")
    node.connect("client", target, APP_PORT)
    node.proxies["server"].accept_ingress(family).close()


def test_listener_outside_of_envoys_cgroup_is_not_believed(node: Node) -> None:
    proxied(node)
    node.proxies["server"].close()
    node.listen("server", port=INGRESS_PORT, cgroup="other")
    node.listen("server", port=INGRESS_PORT + 1, cgroup="envoy")
    assert node.datapath.listening(node.cookie("server")) == set()
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))


def test_listener_that_opened_before_the_pod_was_known_counts(node: Node) -> None:
    pod = node.datapath.pods()["server"]
    node.datapath.remove_pod("server")
    node.proxies["server"].close()
    node.start_proxy("server")
    node.datapath.set_pod(pod)
    proxied(node)
    node.connect("client", node.address("server"), APP_PORT)
    node.proxies["server"].accept_ingress().close()


@FAMILIES
def test_node_reaches_a_pod_for_its_probes_whatever_policy_says(node: Node, family: int) -> None:
    application = node.listen("server", family)
    for policy in (entry(IN, 0, DENY), entry(IN, 0, PROXY)):
        node.policy("server", policy, ingress=DENY)
        node.connect("node", node.address("server", family), APP_PORT, cgroup="other")
        peer = node.accept(application).getpeername()[0]
        assert peer == str(NODE_IPV4 if family == V4 else NODE_IPV6)


def test_unknown_pod_is_closed_also_before_the_agent_knows_it(node: Node) -> None:
    node.listen("server")
    node.datapath.remove_pod("server")
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.reason is Reason.UNKNOWN_POD


def test_entry_of_a_marked_leg_leaves_with_the_connection(node: Node) -> None:
    application = node.listen("server")
    leg = node.connect(
        "client", node.address("server"), APP_PORT, cgroup="envoy", mark=MARK_POLICED
    )
    accepted = node.accept(application)
    assert node.entries("marked_legs") == 1
    leg.close()
    accepted.close()
    assert wait_for(lambda: node.entries("marked_legs") == 0)


def test_entry_of_a_refused_marked_leg_leaves_at_once(node: Node) -> None:
    target = node.address("server")
    assert refused(
        lambda: node.connect("client", target, APP_PORT, cgroup="envoy", mark=MARK_POLICED)
    )
    assert wait_for(lambda: node.entries("marked_legs") == 0)


@pytest.fixture
def always_cookies(topology: Topology) -> Iterator[None]:
    """The server answers every SYN with a cookie and keeps no state until the ACK."""
    netns = topology.pods["server"].netns
    write_sysctls(netns, {"ipv4/tcp_syncookies": "2"})
    yield
    write_sysctls(netns, {"ipv4/tcp_syncookies": "1"})


@pytest.mark.usefixtures("always_cookies")
@FAMILIES
def test_connection_set_up_by_syn_cookie_is_steered_alike(node: Node, family: int) -> None:
    application = node.listen("server", family)
    proxied(node)
    target = node.address("server", family)
    client = node.connect("client", target, APP_PORT)
    client.send(b"x")
    with node.proxies["server"].accept_ingress(family) as accepted:
        assert accepted.recv(64) == b"x"
    leg = node.connect("client", target, APP_PORT, cgroup="envoy", mark=MARK_POLICED)
    leg.send(b"y")
    assert node.accept(application).recv(64) == b"y"


def test_peer_without_identity_is_the_world(node: Node) -> None:
    node.listen("server")
    node.datapath.remove_identity(node.address("client"))
    node.policy("server", entry(IN, Reserved.WORLD, DENY))
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.source_identity == Reserved.WORLD
