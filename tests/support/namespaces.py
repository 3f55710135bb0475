"""Network namespaces of tests, which need root."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from penstock.bpf.syscalls import enter_netns


def ip(*words: str, netns: str = "") -> None:
    """Run ip(8), in a namespace; `ip -n` would remount "/", which fails in a chroot.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    where = entering(netns) if netns else []
    subprocess.run([*where, "ip", *words], check=True, capture_output=True, text=True)


def entering(netns: str) -> list[str]:
    """Return the command that runs another one in a namespace.

    Files of the namespace in /etc/netns go over those of /etc; then "/" must be a mount.
    """
    if Path("/etc/netns", netns).exists():
        return ["ip", "netns", "exec", netns]
    return ["nsenter", f"--net=/run/netns/{netns}"]


def root_is_mount(mounts: str | None = None) -> bool:
    """Return whether "/" is a mount, which it is not in a chroot.

    Args:
        mounts: as /proc/self/mountinfo lists them; None is what it says now.
    """
    told = Path("/proc/self/mountinfo").read_text() if mounts is None else mounts
    return any(line.split()[4] == "/" for line in told.splitlines())


@contextlib.contextmanager
def namespaces(names: Sequence[str]) -> Generator[None]:
    """Make network namespaces, with loopback up, and take them away."""
    with contextlib.ExitStack() as stack:
        for netns in names:
            ip("netns", "add", netns)
            stack.callback(ip, "netns", "del", netns)
            ip("link", "set", "lo", "up", netns=netns)
        yield


def linked(there: str, here: str, addresses: tuple[str, str]) -> None:
    """Link two namespaces: `there` gets the first address, `here` the second on eth0."""
    ip("link", "add", here[-8:], "type", "veth", "peer", "name", "eth0", "netns", here, netns=there)
    for netns, link, address in ((there, here[-8:], addresses[0]), (here, "eth0", addresses[1])):
        ip("addr", "add", f"{address}/24", "dev", link, netns=netns)
        ip("link", "set", link, "up", netns=netns)


def socket_in(netns: str, kind: socket.SocketKind) -> socket.socket:
    """Return a socket that lives in a network namespace."""
    found: list[socket.socket] = []

    def make() -> None:
        with Path("/run/netns", netns).open("rb") as namespace:
            enter_netns(namespace.fileno())
        found.append(socket.socket(socket.AF_INET, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    found[0].setblocking(False)
    return found[0]
