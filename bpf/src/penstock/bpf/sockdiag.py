"""Destruction of TCP connections whose verdict has changed.

Source: linux/inet_diag.h and linux/sock_diag.h; needs a kernel with CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from penstock.bpf import netlink
from penstock.bpf.abi import IPAddress
from penstock.bpf.errors import DatapathError

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21

_REQUEST = struct.Struct("=BBBBI48s")  # inet_diag_req_v2: family, protocol, ext, pad, states, id
_MESSAGE = struct.Struct("=BBBB48s")  # the head of inet_diag_msg: family, state, timer, retrans, id
_SOCKET_ID = struct.Struct("!HH16s16s")  # inet_diag_sockid: ports and addresses in network order
_MESSAGE_SIZE = 72  # inet_diag_msg: its head, then expires, rqueue, wqueue, uid, inode
_INET_DIAG_MARK, _INET_DIAG_CGROUP_ID = 15, 21

# TCP states: all that carry data or begin; not LISTEN (10), TIME_WAIT (6), CLOSE (7).
_LIVE_STATES = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11, 12))
_LISTEN_STATE = 1 << 10


class Connection(NamedTuple):
    """One TCP socket of a namespace, as the kernel lists it."""

    family: int
    id: bytes
    """struct inet_diag_sockid, with the socket's cookie: a reused port is another socket."""
    local: IPAddress
    local_port: int
    remote: IPAddress
    remote_port: int
    mark: int = 0
    """SO_MARK."""
    cgroup: int = 0
    """Id of the cgroup that the socket was made in, the inode of its folder."""

    @property
    def is_own(self) -> bool:
        """Whether both ends are the same address, or loopback: never policed, never destroyed."""
        return self.local == self.remote or self.local.is_loopback or self.remote.is_loopback


def destroy_connections(
    netns: Path,
    *,
    local_port: int | None = None,
    remote_port: int | None = None,
    remote: Collection[IPAddress] | None = None,
) -> int:
    """Destroy the TCP connections in *netns* that match all that is given; return how many.

    Both ends see ECONNABORTED or a reset. Loopback and a pod's connections to its own address
    are left alone: no verdict is about them.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    wanted = None if remote is None else frozenset(remote)
    with netlink.connect(netns, _NETLINK_SOCK_DIAG) as connection:
        matching = [
            one
            for one in _listed(connection, _LIVE_STATES)
            if not one.is_own
            and local_port in {None, one.local_port}
            and remote_port in {None, one.remote_port}
            and (wanted is None or one.remote in wanted)
        ]
        return sum(_destroy(connection, one) for one in matching)


def list_connections(netns: Path) -> tuple[list[Connection], set[int]]:
    """Return the live TCP connections in *netns*, and the ports that something listens on.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_SOCK_DIAG) as connection:
        listening = {one.local_port for one in _listed(connection, _LISTEN_STATE)}
        return _listed(connection, _LIVE_STATES), listening


def list_listening(netns: Path) -> list[Connection]:
    """Return the TCP sockets in *netns* that listen.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_SOCK_DIAG) as connection:
        return _listed(connection, _LISTEN_STATE)


def destroy_listed(netns: Path, connections: Collection[Connection]) -> int:
    """Destroy *connections*, as `list_connections` gave them; return how many were still there.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_SOCK_DIAG) as connection:
        return sum(_destroy(connection, one) for one in connections)


def _listed(connection: socket.socket, states: int) -> list[Connection]:
    return [
        one
        for family in (socket.AF_INET, socket.AF_INET6)
        for one in _connections(connection, family, states)
    ]


def decode_connection(payload: bytes) -> Connection:
    """Return the connection of one inet_diag_msg."""
    family, _state, _timer, _retransmits, socket_id = _MESSAGE.unpack_from(payload)
    local_port, remote_port, local, remote = _SOCKET_ID.unpack_from(socket_id)
    attributes = netlink.attributes(payload[_MESSAGE_SIZE:])
    return Connection(
        family,
        socket_id,
        _address(family, local),
        local_port,
        _address(family, remote),
        remote_port,
        mark=int.from_bytes(attributes.get(_INET_DIAG_MARK, b""), sys.byteorder),
        cgroup=int.from_bytes(attributes.get(_INET_DIAG_CGROUP_ID, b""), sys.byteorder),
    )


def _address(family: int, octets: bytes) -> IPAddress:
    if family == socket.AF_INET:
        return IPv4Address(octets[:4])
    address = IPv6Address(octets)
    return address.ipv4_mapped or address


def _connections(connection: socket.socket, family: int, states: int) -> Iterator[Connection]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states, bytes(48))
    yield from map(decode_connection, netlink.dump(connection, _SOCK_DIAG_BY_FAMILY, request))


def _destroy(connection: socket.socket, doomed: Connection) -> bool:
    """Destroy one socket; return False if it was gone already."""
    request = _REQUEST.pack(doomed.family, socket.IPPROTO_TCP, 0, 0, _LIVE_STATES, doomed.id)
    netlink.send(connection, _SOCK_DESTROY, netlink.ACK, request)
    for kind, payload in netlink.receive(connection):
        if kind != netlink.ERROR:
            continue
        error = netlink.errno_of(payload)
        if error == errno.EOPNOTSUPP:
            raise DatapathError(
                "this kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY)", error
            )
        if error not in {0, errno.ENOENT}:
            raise DatapathError("destroy a TCP socket", error)
        return error == 0
    return False
