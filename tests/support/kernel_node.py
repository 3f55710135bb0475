"""What kernel tests do with a node: pods with identities, policies, connections."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from penstock.bpf.abi import Address, Connection, EventKind, IPAddress
from penstock.bpf.datapath import Datapath
from penstock.bpf.events import EventReader
from penstock.bpf.libbpf import library
from penstock.bpf.maps import BpfMap
from penstock.bpf.model import Backend, BpfEvent, Pod, PolicyEntries, PolicyEntry, Service
from penstock.bpf.namespaces import netns_cookie
from penstock.ir.policy import TCP, Direction, Reserved, Verdict
from support.fake_proxy import FakeProxy
from support.topology import NODE_IPV4, NODE_IPV6, Topology

PODS = ("client", "server", "other")
IDENTITY = {"client": 1001, "server": 1002, "other": 1003}
APP_PORT = 8080
VIP = IPv4Address("10.96.0.10")
VIP6 = IPv6Address("fd96::10")
V4, V6 = socket.AF_INET, socket.AF_INET6
ALLOW, DENY, PROXY = Verdict.ALLOW, Verdict.DENY, Verdict.PROXY
IN, OUT = Direction.INGRESS, Direction.EGRESS


def entry(
    direction: Direction, peer: str | int, verdict: Verdict, *, port: int = 0, protocol: int = 0
) -> PolicyEntry:
    number = IDENTITY[peer] if isinstance(peer, str) else peer
    return PolicyEntry(direction, number, port, protocol, verdict)


class Node:
    """A datapath over the topology; every socket it hands out is closed at the end."""

    def __init__(self, topology: Topology, bpffs: Path) -> None:
        self.topology, self.bpffs = topology, bpffs
        self._open = ExitStack()
        self.proxies: dict[str, FakeProxy] = {}

    def start(self) -> None:
        self.datapath = Datapath.open(self.bpffs)
        self._open.callback(self.datapath.close)
        self.datapath.attach_envoy(self.topology.envoy_cgroup)
        self.datapath.attach_pods(self.topology.pods_cgroup)
        for name, place in self.topology.pods.items():
            pod = Pod(
                uid=name,
                cookie=netns_cookie(place.netns),
                identity=IDENTITY[name],
                namespace=f"{name}s",
                ipv4=place.ipv4,
                ipv6=place.ipv6,
            )
            self.datapath.set_pod(pod)
            self.datapath.attach_netns(name, place.netns)
            for address in (place.ipv4, place.ipv6):
                self.datapath.set_identity(address, IDENTITY[name])
            self.policy(name)
        for address in (NODE_IPV4, NODE_IPV6):
            self.datapath.set_identity(address, Reserved.HOST)
        for name in PODS:
            self.start_proxy(name)
        self.events: EventReader = self._open.enter_context(self.datapath.events())

    def start_proxy(self, name: str) -> None:
        self.proxies[name] = FakeProxy(self.topology.actor(name, "envoy"))
        self._open.callback(self.proxies[name].close)

    def close(self) -> None:
        self._open.close()

    def cookie(self, pod: str) -> int:
        return netns_cookie(self.topology.pods[pod].netns)

    def address(self, pod: str, family: int = V4) -> IPAddress:
        place = self.topology.pods[pod]
        return place.ipv4 if family == V4 else place.ipv6

    def policy(
        self,
        pod: str,
        *entries: PolicyEntry,
        ingress: Verdict = ALLOW,
        egress: Verdict = ALLOW,
    ) -> None:
        policy = PolicyEntries(default_ingress=ingress, default_egress=egress, entries=entries)
        self.datapath.set_policy(IDENTITY[pod], policy)

    def service(
        self,
        *backends: Backend,
        proxy: bool = False,
        protocol: int = TCP,
        addresses: tuple[IPAddress, ...] = (VIP, VIP6),
        port: int = 80,
        clients: str = "",
        routed: bool = False,
        stay_seconds: int = 0,
    ) -> Service:
        service = Service(
            addresses=addresses,
            port=port,
            protocol=protocol,
            proxy=proxy,
            backends=backends,
            clients=clients,
            routed=routed,
            stay_seconds=stay_seconds,
        )
        self.datapath.set_service(service)
        return service

    def backend(
        self, pod: str, family: int = V4, *, port: int = APP_PORT, weight: int = 1
    ) -> Backend:
        return Backend(self.address(pod, family), port, weight)

    def make_socket(
        self, pod: str, family: int = V4, kind: int = socket.SOCK_STREAM, *, cgroup: str = "pod"
    ) -> socket.socket:
        """Return a socket of a process in *pod* ("node" for the node itself)."""
        made = self.topology.actor(pod, cgroup).socket(family, kind)
        return self._open.enter_context(made)

    def listen(
        self, pod: str, family: int = V4, *, port: int = APP_PORT, cgroup: str = "pod"
    ) -> socket.socket:
        """Return an application's listener on all addresses of *pod*."""
        listener = self.make_socket(pod, family, cgroup=cgroup)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == V6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("0.0.0.0" if family == V4 else "::", port))
        listener.listen(4096)
        return listener

    def connect(
        self, pod: str, address: IPAddress, port: int, *, cgroup: str = "pod", mark: int = 0
    ) -> socket.socket:
        """Connect from *pod*; OSError as the process would see it."""
        made = self.make_socket(pod, V4 if address.version == 4 else V6, cgroup=cgroup)
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        made.connect((str(address), port))
        return made

    def accept(self, listener: socket.socket) -> socket.socket:
        accepted, _peer = listener.accept()
        self._open.enter_context(accepted)
        accepted.settimeout(5)
        return accepted

    def events_of(self, kind: EventKind) -> list[BpfEvent]:
        """Return the events of *kind*, of which at least one is on its way."""
        select.select([self.events.fd], [], [], 5)
        return [event for event in self.events.read() if event.kind is kind]

    def entries(self, name: str) -> int:
        """Return how many entries a map of connections holds."""
        fd = library().call("bpf_obj_get", bytes(self.bpffs / "maps" / name), what=name)
        try:
            return sum(1 for _ in BpfMap(fd, name, Connection, Address).items())
        finally:
            os.close(fd)


def refused(call: Callable[[], object]) -> bool:
    """Return whether *call* ends with ECONNREFUSED; anything else is raised."""
    try:
        call()
    except ConnectionRefusedError:
        return True
    return False


def error_of(call: Callable[[], object]) -> str:
    """Return the name of the error that *call* ends with, "" for none."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ""


def wait_for(condition: Callable[[], bool], *, seconds: float = 30.0) -> bool:
    """Return whether *condition* comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
    return True
