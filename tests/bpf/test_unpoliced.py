"""Whom the programs do not police: the node, pods that are said so, and an Envoy that is a pod."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from penstock.bpf.datapath import Datapath
from penstock.bpf.model import Pod
from penstock.bpf.namespaces import netns_cookie
from penstock.ir.policy import UDP
from penstock.meta.listeners import EGRESS_PORT
from support.kernel_node import (
    APP_PORT,
    DENY,
    IDENTITY,
    V4,
    V6,
    VIP,
    VIP6,
    Node,
    refused,
)
from support.topology import Actor


@pytest.fixture
def unpoliced(node: Node) -> Node:
    """The client is a pod that is not policed, and its identity is closed."""
    node.datapath.detach_netns("client")
    place = node.topology.pods["client"]
    node.datapath.set_pod(
        Pod(uid="client", cookie=netns_cookie(place.netns), identity=0, policed=False)
    )
    node.policy("client", egress=DENY)
    return node


def test_unpoliced_pod_reaches_what_its_identity_may_not(unpoliced: Node) -> None:
    unpoliced.listen("server")
    unpoliced.connect("client", unpoliced.address("server"), APP_PORT)


@pytest.mark.parametrize(("family", "vip"), [(V4, VIP), (V6, VIP6)])
def test_unpoliced_pod_is_served_by_services_without_the_proxy(
    unpoliced: Node, family: int, vip: IPv4Address
) -> None:
    listener = unpoliced.listen("server", family)
    unpoliced.service(unpoliced.backend("server", V4), unpoliced.backend("server", V6), proxy=True)
    client = unpoliced.connect("client", vip, 80)
    assert client.getpeername()[:2] == (str(vip), 80)
    with unpoliced.accept(listener):
        pass


def test_unpoliced_pod_is_refused_by_a_service_without_backends(unpoliced: Node) -> None:
    unpoliced.service()
    assert refused(lambda: unpoliced.connect("client", VIP, 80))


def test_datagrams_of_an_unpoliced_pod_reach_a_service(unpoliced: Node) -> None:
    server = unpoliced.make_socket("server", V4, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", APP_PORT))
    unpoliced.service(unpoliced.backend("server"), protocol=UDP)
    client = unpoliced.make_socket("client", V4, socket.SOCK_DGRAM)
    client.sendto(b"question", (str(VIP), 80))
    question, sender = server.recvfrom(64)
    server.sendto(b"answer", sender)
    answer, origin = client.recvfrom(64)
    assert (question, answer, origin) == (b"question", b"answer", (str(VIP), 80))


def test_process_on_the_hosts_network_is_served_by_services(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"))
    bpffs = node.bpffs
    node.datapath.close()
    node.datapath = Datapath.open(bpffs, host_netns=node.topology.node.netns)
    inside = Actor(node.topology.cgroup / "pods" / "client", node.topology.node.netns)
    try:
        with inside.socket(V4, socket.SOCK_STREAM) as client:
            client.connect((str(VIP), 80))
            with node.accept(listener) as accepted:
                assert accepted.getpeername()[0] != str(VIP)
    finally:
        inside.close()


BECOME_A_POD = """
import ctypes, os, socket, sys
cgroup, netns, what, address, port = sys.argv[1:]
with open(f"{cgroup}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
with open(netns) as namespace:
    assert ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0
made = socket.socket()
made.settimeout(5)
made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
getattr(made, what)((address, int(port)))
print("done")
"""


@pytest.fixture
def envoy_pod(node: Node) -> Callable[[str, str, int], str]:
    """Envoy as a pod below the pods' cgroup, inside the client's network namespace.

    A process, not only a socket: who calls is what counts.
    """
    cgroup = node.topology.pods_cgroup / "envoy-pod"
    container = cgroup / "container"
    container.mkdir(parents=True, exist_ok=True)
    node.datapath.attach_envoy(cgroup)
    netns = node.topology.pods["client"].netns

    def act(what: str, address: str, port: int) -> str:
        arguments = [str(container), str(netns), what, address, str(port)]
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", BECOME_A_POD, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
        return done.stdout.strip() or done.stderr

    return act


EnvoyPod = Callable[[str, str, int], str]


def test_envoy_below_the_pods_cgroup_dials_as_it_likes(node: Node, envoy_pod: EnvoyPod) -> None:
    node.policy("client", egress=DENY)
    listener = node.listen("server")
    assert envoy_pod("connect", str(node.address("server")), APP_PORT) == "done"
    with node.accept(listener) as accepted:
        assert accepted.getpeername()[0] == str(node.address("client"))


def test_envoy_below_the_pods_cgroup_may_have_its_ports_there(
    node: Node, envoy_pod: EnvoyPod
) -> None:
    node.proxies["client"].close()
    assert envoy_pod("bind", "127.0.0.1", EGRESS_PORT) == "done"


def test_a_neighbour_of_envoy_is_judged_as_ever(node: Node, envoy_pod: EnvoyPod) -> None:
    del envoy_pod
    node.policy("client", egress=DENY)
    node.listen("server")
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))


def test_unpoliced_pods_are_told_as_such(unpoliced: Node) -> None:
    pods = unpoliced.datapath.pods()
    assert not pods["client"].policed
    assert pods["server"].policed
    assert pods["server"].identity == IDENTITY["server"]
