"""Network namespaces of the lab: one for the node, one for each pod, routed without a bridge.

A pod has one address of each family (/32, /128) on a veth pair to the node; both ends know each
other by permanent neighbours, so there is no ARP, no neighbour discovery and nothing to wait for.
The machine's own network namespace is left alone: all work is done by one thread that leaves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from penstock.lab import syscalls
from penstock.lab.addressing import NODE_ADDRESSES, family_of
from penstock.meta.errors import PenstockError
from penstock.meta.networks import GATEWAY_NETWORK, SERVICE_NETWORKS
from penstock.meta.paths import NODE_NETNS, RunPaths

T = TypeVar("T")

_LOCAL_TABLE, _MAIN_TABLE, _HOST_SCOPE = 255, 254, 254
_ADMIT = 1000
"""Priority of the rules for what comes from pods: after the local table, before the main one."""
_NODAD = 2
"""Usable at once. Source: rtnetlink(7), IFA_F_NODAD."""
_LINK = 253
"""Scope of a route without a gateway. Source: rtnetlink(7), RT_SCOPE_LINK."""
_GATEWAY4 = "169.254.1.1"
_GATEWAY6 = "fe80::1"

_NODE_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
}
_POD_SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}
_COMMON_SYSCTLS = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


class NetworkError(PenstockError):
    """The kernel refused a step in making a network namespace."""


class PodNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod's network namespace is made from."""

    uid: str
    ipv4: str
    ipv6: str
    index: int
    """Number of the pod in this run, 0 to 2**24: makes interface names and MAC addresses."""


class LabNetwork:
    """Makes and removes network namespaces below `<run>/netns`, and sockets inside them."""

    def __init__(self, paths: RunPaths) -> None:
        """Prepare for the namespaces of one instance; makes nothing yet."""
        self._folder = paths.netns
        self._veths: dict[str, str] = {}
        """By pod: the node's end of its link."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-netns")

    def path(self, name: str) -> Path:
        """Return the file of a namespace."""
        return self._folder / name

    async def make_node(self, service_addresses: tuple[str, ...] = ()) -> None:
        """Make the node's namespace with its addresses and routes.

        Args:
            service_addresses: more addresses of the node's loopback: where cluster DNS listens.

        Raises:
            NetworkError: the kernel refused a step.
        """
        await self._run(self._make_node, service_addresses)

    async def make_pod(self, pod: PodNetwork) -> None:
        """Make a pod's namespace and join it to the node.

        Raises:
            NetworkError: the kernel refused a step.
        """
        await self._run(self._make_pod, pod)

    async def remove(self, name: str) -> None:
        """Take away the file of a namespace; the kernel drops it with its last process."""
        await self._run(self._remove, name)

    async def open_socket(self, name: str, family: int, kind: int) -> socket.socket:
        """Return a non-blocking socket that lives in a namespace.

        Raises:
            NetworkError: there is no such namespace.
        """
        return await self._run(self._socket, name, family, kind)

    def close(self) -> None:
        """Stop the thread; namespaces stay."""
        self._thread.shutdown(wait=True)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        call = functools.partial(function, *arguments)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (OSError, NetlinkError) as error:
            raise NetworkError(
                f"network namespace {arguments[0] if arguments else ''}: {error}; "
                "`penstock up` needs CAP_NET_ADMIN and CAP_SYS_ADMIN"
            ) from error

    def _make_node(self, service_addresses: tuple[str, ...]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._new_namespace(NODE_NETNS), IPRoute() as node:
            _write_sysctls(_COMMON_SYSCTLS | _NODE_SYSCTLS)
            node.link("set", index=1, state="up")
            for address in (*NODE_ADDRESSES, *service_addresses):
                _add_address(node, 1, address)
            _close_service_ranges(node)
            node.route(
                "add",
                dst=GATEWAY_NETWORK,
                type="local",
                oif=1,
                table=_LOCAL_TABLE,
                scope=_HOST_SCOPE,
            )

    def _make_pod(self, pod: PodNetwork) -> None:
        near, far = _macs(pod.index)
        veth = f"pod{pod.index}"
        with self._new_namespace(pod.uid), IPRoute() as inside:
            _write_sysctls(_COMMON_SYSCTLS | _POD_SYSCTLS)
            inside.link("set", index=1, state="up")
            with self._open(pod.uid) as pod_fd, self._inside(NODE_NETNS), IPRoute() as node:
                peer = {"ifname": "eth0", "address": far, "net_ns_fd": pod_fd}
                self._veths[pod.uid] = veth
                node.link("add", ifname=veth, kind="veth", address=near, peer=peer)
                outer = _index_of(node, veth)
                _admit_only(node, veth, pod)
                node.link("set", index=outer, state="up")
                eth0 = _index_of(inside, "eth0")
                inside.link("set", index=eth0, state="up")
                _route_to_pod(node, outer, pod, far)
            _route_from_pod(inside, eth0, pod, near)

    def _remove(self, name: str) -> None:
        path = self.path(name)
        self._remove_veth(name)
        with contextlib.suppress(OSError):
            syscalls.umount(str(path))
        path.unlink(missing_ok=True)

    def _remove_veth(self, uid: str) -> None:
        """Free a pod's address now: the kernel removes the namespace some time later."""
        veth = self._veths.pop(uid, "")
        if veth:
            with self._inside(NODE_NETNS), IPRoute() as node, contextlib.suppress(NetlinkError):
                node.flush_rules(family=socket.AF_INET6, iifname=veth)
                node.link("del", ifname=veth)

    def _socket(self, name: str, family: int, kind: int) -> socket.socket:
        with self._inside(name):
            return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    @contextlib.contextmanager
    def _new_namespace(self, name: str) -> Generator[None, None, None]:
        """Run the body in a new namespace that is bound to its file; undo that if it fails."""
        path = self.path(name)
        path.touch(mode=0o600, exist_ok=False)
        try:
            with _returning():
                syscalls.unshare(syscalls.CLONE_NEWNET)
                syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)
                yield
        except BaseException:
            self._remove(name)
            raise

    @contextlib.contextmanager
    def _inside(self, name: str) -> Generator[None, None, None]:
        with self._open(name) as fd, _returning():
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            yield

    @contextlib.contextmanager
    def _open(self, name: str) -> Generator[int, None, None]:
        fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)


@contextlib.contextmanager
def _returning() -> Generator[None, None, None]:
    """Bring the calling thread back to the network namespace it is in now."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(home)


def _write_sysctls(values: Mapping[str, str]) -> None:
    """Set sysctls of the calling thread's network namespace."""
    for name, value in values.items():
        Path("/proc/sys", name).write_text(value, encoding="ascii")


def _macs(index: int) -> tuple[str, str]:
    """Return the MAC addresses of the node's and of the pod's end; locally administered."""
    low = ":".join(f"{byte:02x}" for byte in index.to_bytes(4, "big"))
    return f"02:01:{low}", f"02:02:{low}"


def _index_of(link: Any, name: str) -> int:
    """Return the index of an interface."""
    return int(link.link_lookup(ifname=name)[0])


def _add_address(link: Any, index: int, address: str) -> None:
    length = 128 if ":" in address else 32
    link.addr(
        "add",
        index=index,
        address=address,
        prefixlen=length,
        family=family_of(address),
        flags=_NODAD if ":" in address else 0,
    )


def _add_neighbour(link: Any, index: int, address: str, mac: str) -> None:
    link.neigh(
        "replace",
        dst=address,
        lladdr=mac,
        ifindex=index,
        state="permanent",
        family=family_of(address),
    )


def _route_to_pod(node: Any, index: int, pod: PodNetwork, mac: str) -> None:
    for address, length in ((pod.ipv4, 32), (pod.ipv6, 128)):
        family = family_of(address)
        source = NODE_ADDRESSES[family == socket.AF_INET6]
        node.route(
            "add", dst=f"{address}/{length}", oif=index, family=family, scope=_LINK, prefsrc=source
        )
        _add_neighbour(node, index, address, mac)


def _admit_only(node: Any, veth: str, pod: PodNetwork) -> None:
    """Let nothing through that does not come from the pod's own addresses.

    Receivers believe the source of a packet. For IPv6 the kernel has no reverse path filter.
    """
    _write_sysctls({f"net/ipv4/conf/{veth}/rp_filter": "1"})
    rule = {"family": socket.AF_INET6, "iifname": veth}
    node.rule("add", **rule, priority=_ADMIT, src=pod.ipv6, src_len=128, table=_MAIN_TABLE)
    node.rule("add", **rule, priority=_ADMIT + 1, action="FR_ACT_BLACKHOLE")


def _close_service_ranges(link: Any) -> None:
    """Let addresses that eBPF did not translate fail at once, in the namespace: no waiting."""
    for destination in SERVICE_NETWORKS:
        link.route("add", dst=destination, type="unreachable", family=family_of(destination))


def _route_from_pod(inside: Any, index: int, pod: PodNetwork, mac: str) -> None:
    for address in (pod.ipv4, pod.ipv6):
        _add_address(inside, index, address)
    for gateway in (_GATEWAY4, _GATEWAY6):
        _add_neighbour(inside, index, gateway, mac)
    _close_service_ranges(inside)
    inside.route("add", dst=f"{_GATEWAY4}/32", oif=index, scope=_LINK)
    for reachable in ("default", GATEWAY_NETWORK):  # the latter lies in a closed range
        inside.route("add", dst=reachable, gateway=_GATEWAY4, oif=index)
    inside.route("add", dst="default", gateway=_GATEWAY6, oif=index, family=socket.AF_INET6)
