"""Virtual addresses that go from one Service to another, as an agent writes them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from penstock.agent.kernel import BpfKernel
from penstock.agent.node_resources import Backend, Service
from penstock.ir.policy import TCP
from support.kernel_node import APP_PORT, VIP, Node

OTHER_VIP = "10.96.0.11"


@pytest.fixture
def kernel(node: Node) -> BpfKernel:
    return BpfKernel(node.datapath, node.topology.folder, node.topology.pods_cgroup)


def service(node: Node, pod: str, *addresses: str) -> Service:
    return Service(
        namespace="shop",
        name=pod,
        addresses=addresses,
        port=80,
        protocol=TCP,
        proxy=False,
        backends=(Backend(str(node.address(pod)), APP_PORT, 1),),
    )


def test_an_address_goes_over_before_the_service_that_had_it_is_gone(
    node: Node, kernel: BpfKernel
) -> None:
    listener = node.listen("server")
    kernel.set_service("old", service(node, "other", str(VIP)))
    kernel.set_service("new", service(node, "server", str(VIP)))
    kernel.remove_service("old")
    node.connect("client", VIP, 80)
    node.accept(listener)
    kernel.remove_service("new")
    assert node.datapath.services() == set()


def test_services_change_their_addresses_for_each_others(node: Node, kernel: BpfKernel) -> None:
    listeners = {pod: node.listen(pod) for pod in ("server", "other")}
    kernel.set_service("a", service(node, "server", str(VIP)))
    kernel.set_service("b", service(node, "other", OTHER_VIP))
    kernel.set_service("a", service(node, "server", OTHER_VIP))
    kernel.set_service("b", service(node, "other", str(VIP)))
    for address, pod in ((IPv4Address(OTHER_VIP), "server"), (VIP, "other")):
        node.connect("client", address, 80)
        node.accept(listeners[pod])


def test_an_address_that_two_services_have_stays_with_the_one_that_is_left(
    node: Node, kernel: BpfKernel
) -> None:
    listener = node.listen("server")
    kernel.set_service("first", service(node, "server", str(VIP)))
    kernel.set_service("second", service(node, "other", str(VIP)))
    kernel.remove_service("second")
    node.connect("client", VIP, 80)
    node.accept(listener)
