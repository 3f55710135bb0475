"""Sockets and cookies of other network namespaces."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path

from penstock.bpf.errors import DatapathError
from penstock.bpf.syscalls import enter_netns

SO_NETNS_COOKIE = 71  # asm-generic/socket.h; Linux 5.14
_COOKIE = struct.Struct("=Q")


def socket_in(netns: Path, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a socket of the network namespace *netns*; it stays there for life.

    A thread of its own enters the namespace: the caller stays where it is.

    Raises:
        DatapathError: *netns* is no network namespace, or we may not enter it.
    """
    outcome: list[socket.socket | DatapathError | OSError] = []

    def make() -> None:
        try:
            enter_netns(fd)
            outcome.append(socket.socket(family, kind, protocol))
        except (DatapathError, OSError) as error:
            outcome.append(error)

    try:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DatapathError(f"{netns}: network namespace", error.errno or 0) from error
    try:
        thread = threading.Thread(target=make, name="netns")
        thread.start()
        thread.join()
    finally:
        os.close(fd)
    made = outcome[0]
    if isinstance(made, socket.socket):
        return made
    raise DatapathError(f"{netns}: no socket there: {made}", made.errno or 0) from made


def netns_cookie(netns: Path) -> int:
    """Return the cookie of a network namespace: unique until the machine restarts."""
    with socket_in(netns, socket.AF_INET, socket.SOCK_DGRAM) as inside:
        raw = inside.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE.size)
    cookie: int = _COOKIE.unpack(raw)[0]
    return cookie
