"""Netlink messages, as far as sockets and addresses are asked for.

Source: linux/netlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.bpf.errors import DatapathError
from penstock.bpf.namespaces import socket_in

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
"""Flags of a message."""
ERROR, DONE = 2, 3
"""Types of answers."""

_BUFFER = 1 << 18
_TIMEOUT_SECONDS = 5.0
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_ERRNO = struct.Struct("=i")


def connect(netns: Path, family: int) -> socket.socket:
    """Return a netlink socket of *family* in a network namespace.

    Raises:
        DatapathError: no such namespace, or we may not enter it.
    """
    netlink = socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW, family)
    netlink.settimeout(_TIMEOUT_SECONDS)
    return netlink


def send(netlink: socket.socket, kind: int, flags: int, request: bytes) -> None:
    """Send one request.

    Raises:
        DatapathError: the kernel does not take it.
    """
    header = _HEADER.pack(_HEADER.size + len(request), kind, flags | REQUEST, 1, 0)
    with _told("netlink request"):
        netlink.sendto(header + request, (0, 0))


def receive(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of the messages of one datagram.

    Raises:
        DatapathError: there is none for long, or one was lost.
    """
    with _told("netlink answer"):
        datagram = netlink.recv(_BUFFER)
    yield from _parts(datagram, _HEADER)


def dump(netlink: socket.socket, kind: int, request: bytes) -> Iterator[bytes]:
    """Yield the payloads of all messages that answer a request.

    Raises:
        DatapathError: the kernel refuses, or does not answer.
    """
    send(netlink, kind, DUMP, request)
    while True:
        for answer, payload in receive(netlink):
            if answer == DONE:
                return
            if answer == ERROR:
                raise DatapathError(f"netlink request {kind}", errno_of(payload))
            yield payload


@contextmanager
def _told(what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        text = what if error.errno else f"{what}: {error}"
        raise DatapathError(text, error.errno or 0) from error


def errno_of(payload: bytes) -> int:
    """Return the number in a message of type ERROR; 0 is success."""
    code: int = _ERRNO.unpack_from(payload)[0]
    return -code


def attributes(payload: bytes) -> dict[int, bytes]:
    """Return the attributes behind the fixed part of a message, by type."""
    return dict(_parts(payload, _ATTRIBUTE))


def _parts(buffer: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of what stands one behind the other, aligned to four bytes."""
    offset = 0
    while offset + head.size <= len(buffer):
        length, kind = head.unpack_from(buffer, offset)[:2]
        if length < head.size:
            return
        yield kind, buffer[offset + head.size : offset + length]
        offset += (length + 3) & ~3
