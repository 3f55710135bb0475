"""What Envoy passes on unread for a pod is judged by the kernel as the pod's own."""

from __future__ import annotations

import pytest

from penstock.bpf.abi import MARK_POLICED, MARK_UNREAD, EventKind, Reason
from support.kernel_node import ALLOW, APP_PORT, DENY, IN, OUT, PROXY, V4, V6, Node, entry, refused


@pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])
def test_egress_rules_hold(node: Node, family: int) -> None:
    listener = node.listen("server", family)
    server = node.address("server", family)
    node.policy("client", entry(OUT, "server", ALLOW, port=APP_PORT, protocol=6), egress=DENY)
    node.connect("client", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    node.accept(listener)
    node.policy("client", egress=DENY)
    assert refused(
        lambda: node.connect("client", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    )
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert (event.reason, event.source_identity) == (Reason.DEFAULT_DENY, 1001)
    assert (event.source, event.destination) == (node.address("client", family), server)


def test_egress_rules_that_read_requests_refuse(node: Node) -> None:
    node.policy("client", entry(OUT, "server", PROXY, port=APP_PORT, protocol=6))
    server = node.address("server")
    assert refused(
        lambda: node.connect("client", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    )
    (event,) = node.events_of(EventKind.CONNECT_DENIED)
    assert event.reason is Reason.NOT_PROXIABLE


def test_ingress_rules_hold_for_the_pod_and_not_for_envoy(node: Node) -> None:
    listener, server = node.listen("server"), node.address("server")
    node.policy("server", entry(IN, "client", ALLOW, port=APP_PORT, protocol=6), ingress=DENY)
    node.connect("client", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    node.accept(listener)
    assert refused(
        lambda: node.connect("other", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    )


def test_ingress_rules_that_read_requests_are_asked(node: Node) -> None:
    node.policy("server", entry(IN, "client", PROXY, port=APP_PORT, protocol=6))
    node.connect("client", node.address("server"), APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    node.proxies["server"].accept_ingress().close()


def test_a_namespace_that_is_no_pods_is_refused(node: Node) -> None:
    node.datapath.remove_pod("client")
    server = node.address("server")
    assert refused(
        lambda: node.connect("client", server, APP_PORT, cgroup="envoy", mark=MARK_UNREAD)
    )


def test_what_envoy_has_judged_is_left_alone(node: Node) -> None:
    listener = node.listen("server")
    node.policy("client", egress=DENY)
    node.connect("client", node.address("server"), APP_PORT, cgroup="envoy", mark=MARK_POLICED)
    node.accept(listener)


def test_a_pod_gains_nothing_by_the_mark(node: Node) -> None:
    node.policy("client", egress=DENY)
    server = node.address("server")
    assert refused(lambda: node.connect("client", server, APP_PORT, mark=MARK_UNREAD))
