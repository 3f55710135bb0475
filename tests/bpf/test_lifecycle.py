"""Loading, taking over, updating and removing the datapath; destroying connections."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from ipaddress import ip_network
from pathlib import Path

import pytest

from penstock.bpf import abi
from penstock.bpf.abi import EventKind, Index
from penstock.bpf.build import OBJECT
from penstock.bpf.datapath import ENVOY_PROGRAMS, POD_PROGRAMS, Datapath
from penstock.bpf.errors import DatapathError
from penstock.bpf.libbpf import library
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import Pod, PolicyEntries, PolicyEntry, Service
from penstock.bpf.namespaces import SO_NETNS_COOKIE, netns_cookie
from penstock.bpf.sockdiag import destroy_connections
from penstock.bpf.syscalls import BPF_FS_MAGIC, filesystem_type
from penstock.ir.policy import TCP
from support.kernel_node import (
    ALLOW,
    APP_PORT,
    DENY,
    IDENTITY,
    IN,
    OUT,
    PODS,
    PROXY,
    V4,
    V6,
    VIP,
    Node,
    entry,
    error_of,
    refused,
    wait_for,
)
from support.topology import Actor, Topology

FAMILIES = pytest.mark.parametrize("family", [V4, V6], ids=["ipv4", "ipv6"])


def test_datapath_goes_on_without_its_agent(node: Node) -> None:
    node.listen("server")
    node.policy("client", entry(OUT, "server", DENY))
    node.service(node.backend("other"), proxy=True)
    node.datapath.close()
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    node.connect("client", VIP, 80)
    node.proxies["client"].accept_egress().close()


def test_successor_finds_what_was_set(node: Node) -> None:
    node.policy("client", entry(OUT, "server", DENY), egress=ALLOW)
    node.service(node.backend("server"), node.backend("other", weight=3))
    before = node.datapath
    pods, identities, services = before.pods(), before.identities(), before.services()
    before.close()
    after = Datapath.open(node.bpffs)
    try:
        assert after.pods() == pods
        assert after.identities() == identities
        assert after.services() == services
        assert after.policies() == set(IDENTITY.values())
        assert after.attached_netns() == set(PODS)
        node.datapath = after
        assert not node.datapath.set_policy(
            IDENTITY["client"],
            _policy(entry(OUT, "server", DENY)),
        )
        same = Service(
            addresses=(VIP,),
            port=80,
            protocol=TCP,
            proxy=False,
            backends=(node.backend("server"), node.backend("other", weight=3)),
        )
        assert not after.set_service(same)
    finally:
        after.close()


def _policy(*entries: PolicyEntry) -> PolicyEntries:
    return PolicyEntries(default_ingress=ALLOW, default_egress=ALLOW, entries=entries)


def test_taking_over_under_load_costs_no_connection(node: Node) -> None:
    listener = node.listen("server")
    node.service(node.backend("server"))
    node.policy("other", egress=DENY)
    stop, reopened = threading.Event(), 0

    def reopen() -> None:
        nonlocal reopened
        while not stop.is_set():
            datapath = Datapath.open(node.bpffs)
            datapath.attach_pods(node.topology.pods_cgroup)
            datapath.attach_envoy(node.topology.envoy_cgroup)
            datapath.close()
            reopened += 1

    thread = threading.Thread(target=reopen)
    thread.start()
    try:
        tries = 0
        while reopened < 6 and tries < 100_000:
            tries += 1
            node.connect("client", VIP, 80).close()
            listener.accept()[0].close()
            assert refused(lambda: node.connect("other", VIP, 80))
    finally:
        stop.set()
        thread.join()
    assert reopened >= 6


def test_attaching_twice_equals_once(node: Node, topology: Topology) -> None:
    def links() -> set[str]:
        return {path.name for path in (node.bpffs / "links").iterdir()}

    before = links()
    node.datapath.attach_pods(topology.pods_cgroup)
    node.datapath.attach_envoy(topology.envoy_cgroup)
    node.datapath.attach_netns("server", topology.pods["server"].netns)
    assert links() == before == {*POD_PROGRAMS, *ENVOY_PROGRAMS}
    node.policy("server", ingress=DENY)
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    assert len(node.events_of(EventKind.INBOUND_DROPPED)) == 1


def test_connections_of_earlier_tests_are_forgotten(node: Node) -> None:
    listener, server = node.listen("server"), node.address("server")
    client = node.connect("client", server, APP_PORT)
    port = client.getsockname()[1]
    node.accept(listener).close()  # first, so that it is the server's side that would remember
    assert client.recv(1) == b""
    client.close()
    node.policy("server", ingress=DENY)
    again = node.make_socket("client")
    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    again.bind(("0.0.0.0", port))
    assert refused(lambda: again.connect((str(server), APP_PORT)))
    (_,) = node.events_of(EventKind.INBOUND_DROPPED)


def test_updated_links_run_the_new_programs(node: Node) -> None:
    def running() -> set[int]:
        return {_program_of(path) for path in (node.bpffs / "links").iterdir()}

    before = running()
    node.datapath.close()
    node.datapath = Datapath.open(node.bpffs)
    try:
        after = running()
    finally:
        node.datapath.close()
    assert not before & after
    assert len(after) == len(before)


def _program_of(pin: Path) -> int:
    """Return the id of the program that a pinned link runs, from its fdinfo."""
    fd = library().call("bpf_obj_get", bytes(pin), what=str(pin))
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text("ascii")
    finally:
        os.close(fd)
    return int(dict(line.split(":\t", 1) for line in text.splitlines())["prog_id"])


def test_pod_in_a_new_namespace_is_attached_again(node: Node, topology: Topology) -> None:
    node.datapath.attach_netns("moving", topology.pods["server"].netns)
    node.datapath.attach_netns("moving", topology.node.netns)
    node.datapath.detach_netns("moving")
    node.datapath.detach_netns("moving")
    assert node.datapath.attached_netns() == set(PODS)


def test_uid_with_dots_and_slashes_is_a_name(node: Node, topology: Topology) -> None:
    uid = "shop/orders-v1.0%2E"
    node.datapath.attach_netns(uid, topology.node.netns)
    assert uid in node.datapath.attached_netns()
    node.datapath.detach_netns(uid)


def test_too_long_uid_is_refused(node: Node) -> None:
    with pytest.raises(DatapathError, match="at most 63 bytes"):
        node.datapath.set_pod(Pod(uid="u" * 64, cookie=1, identity=1))


def test_missing_namespace_is_named(node: Node, tmp_path: Path) -> None:
    with pytest.raises(DatapathError, match="nowhere: cannot attach there"):
        node.datapath.attach_netns("x", tmp_path / "nowhere")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatapathError, match=r"file: no socket there.*EINVAL"):
        netns_cookie(file)


def test_pod_that_gets_another_address_leaves_the_old_one(node: Node) -> None:
    pod = node.datapath.pods()["client"]
    node.datapath.set_pod(Pod(uid="client", cookie=pod.cookie, identity=7, ipv6=pod.ipv6))
    assert node.datapath.pods()["client"].ipv4 is None
    assert refused(lambda: node.connect("server", node.address("client"), APP_PORT))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert event.reason is abi.Reason.UNKNOWN_POD


def test_pod_is_removed_by_uid_or_cookie(node: Node) -> None:
    node.datapath.remove_pod("client")
    node.datapath.remove_pod(node.cookie("server"))
    assert set(node.datapath.pods()) == {"other"}


def test_address_taken_over_by_another_pod_stays_with_it(node: Node) -> None:
    pods = node.datapath.pods()
    heir = Pod(uid="heir", cookie=12345, identity=9, ipv4=pods["client"].ipv4)
    node.datapath.set_pod(heir)
    node.datapath.remove_pod("client")
    assert refused(lambda: node.connect("server", node.address("client"), APP_PORT))
    (event,) = node.events_of(EventKind.INBOUND_DROPPED)
    assert (event.netns_cookie, event.reason) == (12345, abi.Reason.NO_POLICY)


def test_longest_prefix_is_the_identity(node: Node) -> None:
    node.listen("server")
    node.datapath.remove_identity(node.address("server"))
    node.datapath.set_identity(ip_network("10.77.0.0/16"), 4000)
    node.datapath.set_identity(ip_network("10.0.0.0/8"), 4001)
    node.datapath.set_identity(ip_network("::/0"), 4002)
    node.policy("client", entry(OUT, 4000, DENY))
    assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    known = node.datapath.identities()
    assert known[ip_network("10.77.0.0/16")] == 4000
    assert known[ip_network("::/0")] == 4002
    assert known[node.address("client")] == IDENTITY["client"]


def test_maps_of_another_layout_are_an_error(node: Node) -> None:
    node.datapath.close()
    fd = library().call("bpf_obj_get", bytes(node.bpffs / "maps" / "config"), what="config")
    try:
        config = BpfMap(fd, "config", Index, abi.Config)
        config.put(Index(value=0), abi.Config(abi_version=99))
    finally:
        os.close(fd)
    with pytest.raises(DatapathError, match="layout 99"):
        Datapath.open(node.bpffs)


def test_map_of_another_size_is_an_error_that_says_what_to_do(node: Node) -> None:
    node.datapath.close()
    pin = node.bpffs / "maps" / "pods"
    pin.unlink()
    fd = library().call("bpf_map_create", 1, b"pods", 8, 16, 10, None, what="map")
    try:
        library().call("bpf_obj_pin", fd, bytes(pin), what="pin")
    finally:
        os.close(fd)
    with pytest.raises(DatapathError, match="another layout"):
        Datapath.open(node.bpffs)


def test_broken_object_is_an_error(node: Node, tmp_path: Path) -> None:
    broken = tmp_path / "broken.bpf.o"
    broken.write_bytes(OBJECT.read_bytes()[:100])
    with pytest.raises(DatapathError, match=r"broken\.bpf\.o"):
        Datapath.open(node.bpffs, object_file=broken)


def test_removal_detaches_and_unmounts(node: Node) -> None:
    node.listen("server")
    node.policy("server", ingress=DENY)
    assert filesystem_type(node.bpffs) == BPF_FS_MAGIC
    node.events.close()
    node.datapath.close()
    Datapath.remove(node.bpffs)
    Datapath.remove(node.bpffs)
    assert filesystem_type(node.bpffs) != BPF_FS_MAGIC
    node.connect("client", node.address("server"), APP_PORT)


def test_cookie_is_that_of_the_namespace(topology: Topology) -> None:
    cookies = {netns_cookie(place.netns) for place in topology.pods.values()}
    assert len(cookies) == len(topology.pods)
    own = netns_cookie(Path("/proc/self/ns/net"))
    with socket.socket() as made:
        raw = made.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
    assert int.from_bytes(raw, sys.byteorder) == own
    assert own not in cookies


def test_pod_on_the_hosts_network_is_not_judged(node: Node, topology: Topology) -> None:
    node.listen("server")
    node.policy("server", ingress=DENY)
    target = (str(node.address("server")), APP_PORT)
    host = Actor(topology.pods_cgroup / "client", topology.node.netns)
    try:
        with host.socket(V4, socket.SOCK_STREAM) as made:
            assert refused(lambda: made.connect(target))
        node.datapath.close()
        node.datapath = Datapath.open(node.bpffs, host_netns=topology.node.netns)
        with host.socket(V4, socket.SOCK_STREAM) as made:
            made.connect(target)
        with host.socket(V4, socket.SOCK_DGRAM) as made:
            made.sendto(b"x", target)
    finally:
        node.datapath.close()
        host.close()


def test_events_wake_an_event_loop(node: Node) -> None:
    def readable() -> bool:
        return bool(select.select([node.events.fd], [], [], 0)[0])

    assert not readable()
    node.policy("client", egress=DENY)
    refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    assert readable()
    assert len(node.events.read()) == 1
    assert not readable()


def test_full_buffer_loses_events_but_no_verdict(node: Node) -> None:
    node.policy("client", egress=DENY)
    made = node.make_socket("client", kind=socket.SOCK_DGRAM)
    target = (str(node.address("server")), 9)
    tries = (1 << 20) // 112 + 100
    for _ in range(tries):
        assert refused(lambda: made.sendto(b"", target))
    lost = node.events.lost
    assert lost > 0
    assert len(node.events.read()) == tries - lost
    assert node.datapath.counters()["connects_denied"] == tries


@FAMILIES
def test_open_connection_is_destroyed_after_its_verdict_changed(node: Node, family: int) -> None:
    listener = node.listen("server", family)
    target = node.address("server", family)
    kept = node.connect("other", target, APP_PORT)
    accepted_kept = node.accept(listener)
    client = node.connect("client", target, APP_PORT)
    accepted = node.accept(listener)
    node.policy("server", entry(IN, "client", DENY))
    client.send(b"still there")
    assert accepted.recv(64) == b"still there"
    destroyed = destroy_connections(
        node.topology.pods["server"].netns,
        local_port=APP_PORT,
        remote={node.address("client", family)},
    )
    assert destroyed == 1
    assert error_of(lambda: accepted.recv(64)) == "ECONNABORTED"
    assert error_of(lambda: client.recv(64)) == "ECONNRESET"
    kept.send(b"spared")
    assert accepted_kept.recv(64) == b"spared"
    assert refused(lambda: node.connect("client", target, APP_PORT))


def test_mapped_connection_is_destroyed_by_its_ipv4_address(node: Node) -> None:
    listener = node.make_socket("server", V6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", APP_PORT))
    listener.listen()
    node.connect("client", node.address("server"), APP_PORT)
    accepted = node.accept(listener)
    destroyed = destroy_connections(
        node.topology.pods["server"].netns, remote={node.address("client")}
    )
    assert destroyed == 1
    assert error_of(lambda: accepted.recv(64)) == "ECONNABORTED"


def test_own_connections_and_listeners_are_never_destroyed(node: Node) -> None:
    listener = node.listen("server")
    for host in ("127.0.0.1", str(node.address("server"))):
        client = node.make_socket("server")
        client.connect((host, APP_PORT))
        accepted = node.accept(listener)
        assert destroy_connections(node.topology.pods["server"].netns) == 0
        client.send(b"spared")
        assert accepted.recv(64) == b"spared"


def test_clients_side_is_destroyed_by_the_remote_port(node: Node) -> None:
    node.listen("server")
    client = node.connect("client", node.address("server"), APP_PORT)
    netns = node.topology.pods["client"].netns
    assert destroy_connections(netns, remote_port=APP_PORT + 1) == 0
    assert destroy_connections(netns, remote_port=APP_PORT) == 1
    assert error_of(lambda: client.recv(64)) == "ECONNABORTED"


def test_policy_flips_under_load_never_let_a_denied_connection_through(node: Node) -> None:
    """Both policies deny the client, each by another entry; one is always in force."""
    listener = node.listen("server")
    listener.setblocking(False)
    by_peer = (entry(OUT, "server", DENY), entry(OUT, 0, ALLOW))
    by_port = (entry(OUT, 0, DENY, port=APP_PORT, protocol=TCP), entry(OUT, "server", ALLOW))
    stop, flips = threading.Event(), 0

    def flip() -> None:
        nonlocal flips
        while not stop.is_set():
            flips += 1
            node.policy("client", *(by_peer if flips % 2 else by_port))

    node.policy("client", *by_port)
    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(3000):
            assert refused(lambda: node.connect("client", node.address("server"), APP_PORT))
    finally:
        stop.set()
        thread.join()
    assert flips > 100
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_policy_change_between_allow_and_proxy_never_refuses(node: Node) -> None:
    listener = node.listen("server")
    listener.setblocking(False)
    node.policy("server", entry(IN, "client", ALLOW), ingress=DENY)
    stop, flips = threading.Event(), 0

    def flip() -> None:
        nonlocal flips
        while not stop.is_set():
            flips += 1
            verdict = PROXY if flips % 2 else ALLOW
            node.policy("server", entry(IN, "client", verdict), ingress=DENY)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(1500):
            node.connect("client", node.address("server"), APP_PORT).close()
    finally:
        stop.set()
        thread.join()
    assert flips > 100


def test_killed_agent_leaves_a_working_datapath(topology: Topology) -> None:
    """The process that loaded everything dies without a word."""
    bpffs = topology.folder / "killed"
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from penstock.bpf.datapath import Datapath;"
        "d = Datapath.open(Path(sys.argv[1])); d.attach_pods(Path(sys.argv[2]));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    try:
        subprocess.run(
            [sys.executable, "-c", script, str(bpffs), str(topology.pods_cgroup)],
            check=False,
            timeout=30,
        )
        with topology.actor("client", "pod").socket(V4, socket.SOCK_STREAM) as made:
            assert refused(lambda: made.connect((str(topology.pods["server"].ipv4), 9)))
    finally:
        Datapath.remove(bpffs)
    assert wait_for(lambda: not any(bpffs.iterdir()))
