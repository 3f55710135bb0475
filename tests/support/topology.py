"""A node and pods as network namespaces, with cgroups, for tests that need the kernel.

The node routes between pods: 10.77.0.1 and fd77::1 are its own, a pod has 10.77.0.<10+n> and
fd77::<10+n> (n counts from 1) on a veth pair. Nothing touches the root namespace but the names in
/run/netns and the folder /run/penstock-test-<pid>-<n>. All names hold the process id, so that
tests can run side by side, and what a killed test has left is taken away by the next one.
Processes are entered by setns, never by `ip netns exec`, which hides the cgroup filesystem.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pytest

from penstock.bpf.build import build
from penstock.bpf.capabilities import cgroup2_mount, missing_capabilities
from penstock.bpf.datapath import Datapath
from penstock.bpf.errors import BuildError
from penstock.bpf.syscalls import enter_netns
from penstock.lab import cgroups

ACTOR = Path(__file__).with_name("actor.py")
NODE_IPV4 = IPv4Address("10.77.0.1")
NODE_IPV6 = IPv6Address("fd77::1")
CALL_TIMEOUT = 30.0
FOLDER_PREFIX = "penstock-test-"
NETNS_PREFIX = "pst"
_instances = itertools.count(1)


class Place(msgspec.Struct, frozen=True):
    """A network namespace with addresses."""

    name: str
    netns: Path
    ipv4: IPv4Address
    ipv6: IPv6Address


class Actor:
    """Makes sockets in one cgroup and network namespace."""

    def __init__(self, cgroup: Path, netns: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-S", "-E", str(ACTOR), str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, str(cgroup), str(netns)], pass_fds=[theirs.fileno()]
            )
        ours.settimeout(CALL_TIMEOUT)
        self._control = ours

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket made there, with a timeout so that no test hangs."""
        self._control.send(f"{int(family)} {int(kind)} {protocol}".encode())
        answer, descriptors, _flags, _address = socket.recv_fds(self._control, 64, 1)
        if not descriptors:
            raise OSError(int(answer), os.strerror(int(answer)))
        made = socket.socket(fileno=descriptors[0])
        made.settimeout(CALL_TIMEOUT)
        return made

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(CALL_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Topology:
    """One node and its pods; leaves nothing behind, also after a failure."""

    def __init__(self, pods: tuple[str, ...]) -> None:
        mount = cgroup2_mount()
        assert mount is not None
        instance = f"{os.getpid()}-{next(_instances)}"
        self._tag = f"{NETNS_PREFIX}{instance}"
        self.cgroup = mount / f"{FOLDER_PREFIX}{instance}"
        self.folder = Path("/run") / self.cgroup.name
        self.node = self._place("node", NODE_IPV4, NODE_IPV6)
        self.pods: dict[str, Place] = {}
        for index, name in enumerate(pods, 11):
            ipv4, ipv6 = IPv4Address(f"10.77.0.{index}"), IPv6Address(f"fd77::{index}")
            self.pods[name] = self._place(name, ipv4, ipv6)
        self._actors: dict[tuple[str, str], Actor] = {}
        self._cleanup = ExitStack()

    def _place(self, name: str, ipv4: IPv4Address, ipv6: IPv6Address) -> Place:
        return Place(name, Path("/run/netns") / f"{self._tag}-{name}", ipv4, ipv6)

    @property
    def pods_cgroup(self) -> Path:
        return self.cgroup / "pods"

    @property
    def envoy_cgroup(self) -> Path:
        return self.cgroup / "envoy"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            _sweep(self.cgroup.parent)
            self.folder.mkdir(mode=0o700)
            undo.callback(_remove, self.folder, self.cgroup)
            for folder in ("envoy", "other", *(f"pods/{name}" for name in self.pods)):
                (self.cgroup / folder).mkdir(parents=True)
            undo.callback(self._remove_namespaces)
            self._make_node()
            for number, pod in enumerate(self.pods.values(), 1):
                self._make_pod(number, pod)
            undo.callback(self._close_actors)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def actor(self, place: str, cgroup: str) -> Actor:
        """Return the actor of a pod ("node" for the node) in cgroup "pod", "envoy" or "other"."""
        key = (place, cgroup)
        if key not in self._actors:
            folder = f"pods/{place}" if cgroup == "pod" else cgroup
            where = self.node if place == "node" else self.pods[place]
            self._actors[key] = Actor(self.cgroup / folder, where.netns)
        return self._actors[key]

    def _make_node(self) -> None:
        name = self.node.netns.name
        _ip(f"netns add {name}")
        _ip(
            "link set lo up",
            f"address add {NODE_IPV4}/32 dev lo",
            f"address add {NODE_IPV6}/128 dev lo nodad",
            netns=name,
        )
        write_sysctls(
            self.node.netns,
            {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"},
        )

    def _make_pod(self, number: int, pod: Place) -> None:
        node, name = self.node.netns.name, pod.netns.name
        outside, inside = f"02:00:00:00:01:{number:02x}", f"02:00:00:00:02:{number:02x}"
        veth = f"veth{number}"
        _ip(f"netns add {name}")
        _ip(
            f"link add {veth} address {outside} type veth "
            f"peer name eth0 address {inside} netns {name}",
            f"link set {veth} up",
            f"route add {pod.ipv4}/32 dev {veth}",
            f"neighbour add {pod.ipv4} lladdr {inside} dev {veth} nud permanent",
            netns=node,
        )
        _ip(
            "link set lo up",
            "link set eth0 up",
            f"address add {pod.ipv4}/32 dev eth0",
            f"address add {pod.ipv6}/128 dev eth0 nodad",
            f"neighbour add 169.254.1.1 lladdr {outside} dev eth0 nud permanent",
            "route add 169.254.1.1 dev eth0 scope link",
            "route add default via 169.254.1.1 dev eth0",
            f"neighbour add fe80::1 lladdr {outside} dev eth0 nud permanent",
            "route add default via fe80::1 dev eth0",
            netns=name,
        )
        _ip(
            f"route add {pod.ipv6}/128 dev {veth}",
            f"neighbour add {pod.ipv6} lladdr {inside} dev {veth} nud permanent",
            netns=node,
        )

    def _close_actors(self) -> None:
        for actor in self._actors.values():
            actor.close()

    def _remove_namespaces(self) -> None:
        for place in (*self.pods.values(), self.node):
            if place.netns.exists():
                _ip(f"netns delete {place.netns.name}")


def _remove(folder: Path, cgroup: Path) -> None:
    """Remove a test's folder under /run, with the bpffs mounted below it, and its cgroup."""
    for bpffs in folder.glob("*"):
        Datapath.remove(bpffs)
    shutil.rmtree(folder, ignore_errors=True)
    cgroups.remove(cgroup)


def _sweep(mount: Path) -> None:
    """Take away what tests that were killed have left."""

    def is_dead(instance: str) -> bool:
        pid = instance.partition("-")[0]
        return pid.isdigit() and not Path("/proc", pid).exists()

    for netns in Path("/run/netns").glob(f"{NETNS_PREFIX}*-*"):
        if is_dead(netns.name.removeprefix(NETNS_PREFIX)):
            _ip(f"netns delete {netns.name}")
    names = {path.name for root in (mount, Path("/run")) for path in root.glob(f"{FOLDER_PREFIX}*")}
    for name in names:
        if is_dead(name.removeprefix(FOLDER_PREFIX)):
            _remove(Path("/run") / name, mount / name)


def _ip(*lines: str, netns: str | None = None) -> None:
    """Run one batch of `ip` commands; `ip -n` would remount "/", which fails in a chroot."""
    where = [] if netns is None else ["nsenter", f"--net=/run/netns/{netns}"]
    subprocess.run(
        [*where, "ip", "-batch", "-"],
        input="\n".join(lines),
        check=True,
        text=True,
        timeout=CALL_TIMEOUT,
    )


@contextmanager
def checked_topology(pods: tuple[str, ...]) -> Generator[Topology]:
    """Make a node with *pods* where there is what the kernel's programs need; skip elsewhere."""
    try:
        build()
    except BuildError as error:
        pytest.skip(str(error))
    if missing := missing_capabilities():
        pytest.skip("; ".join(missing))
    with Topology(pods) as made:
        yield made


def write_sysctls(netns: Path, values: dict[str, str]) -> None:
    """Write below /proc/sys/net of a namespace: the writing thread's namespace counts."""
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with netns.open("rb") as namespace:
                enter_netns(namespace.fileno())
            for name, value in values.items():
                (Path("/proc/sys/net") / name).write_text(value, "ascii")
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
