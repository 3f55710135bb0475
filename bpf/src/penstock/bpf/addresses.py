"""Addresses of a network namespace: read, added, removed.

Source: rtnetlink(7), RTM_GETADDR, RTM_NEWADDR and RTM_GETLINK; linux/if_addr.h, linux/if_link.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import msgspec

from penstock.bpf import netlink
from penstock.bpf.errors import DatapathError
from penstock.bpf.namespaces import socket_in

IPAddress = IPv4Address | IPv6Address

_NETLINK_ROUTE = 0
_RTM_GETLINK = 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFINFOMSG = struct.Struct("=BxHiII")  # family, kind, interface, flags, changed
_IFLA_ADDRESS = 1
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_IFA_F_NODAD = 0x02
_NLM_REPLACE, _NLM_CREATE = 0x100, 0x400
_ATTRIBUTE = struct.Struct("=HH")


class LinkAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address on an interface."""

    address: IPAddress
    interface: int
    """Index."""
    protocol: int
    """Who has put it there (IFA_PROTO, Linux 5.18); 0 if nobody said."""


def host_addresses(netns: Path) -> set[str]:
    """Return the addresses of a network namespace, without loopback and link-local ones.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    found = {one.address for one in link_addresses(netns)}
    return {str(a) for a in found if not (a.is_loopback or a.is_link_local)}


def link_addresses(netns: Path) -> list[LinkAddress]:
    """Return all addresses of a network namespace.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_ROUTE) as connection:
        answers = netlink.dump(connection, _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0))
        return [one for answer in answers for one in _link_address(answer)]


def hardware_addresses(netns: Path) -> set[bytes]:
    """Return the hardware addresses of all links of a network namespace.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_ROUTE) as connection:
        links = netlink.dump(connection, _RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0))
        found = (netlink.attributes(link[_IFINFOMSG.size :]) for link in links)
        return {each[_IFLA_ADDRESS] for each in found if _IFLA_ADDRESS in each}


def add_address(netns: Path, interface: int, address: IPAddress, protocol: int) -> None:
    """Put *address* on an interface, with the mark *protocol*; twice equals once.

    Raises:
        DatapathError: no such interface, or the kernel refuses.
    """
    wanted = LinkAddress(address=address, interface=interface, protocol=protocol)
    _change(netns, _RTM_NEWADDR, netlink.ACK | _NLM_CREATE | _NLM_REPLACE, wanted)


def remove_address(netns: Path, interface: int, address: IPAddress) -> None:
    """Take *address* from an interface; nothing happens if it is not there.

    Raises:
        DatapathError: the kernel refuses.
    """
    try:
        gone = LinkAddress(address=address, interface=interface, protocol=0)
        _change(netns, _RTM_DELADDR, netlink.ACK, gone)
    except DatapathError as error:
        if error.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
            raise


def default_source(netns: Path) -> IPAddress | None:
    """Return the address that the node uses toward the world; None without a default route."""
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket_in(netns, family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((anywhere, 9))  # sends nothing
            except OSError:
                continue
            return ipaddress.ip_address(probe.getsockname()[0])
    return None


def _change(netns: Path, kind: int, flags: int, link: LinkAddress) -> None:
    address = link.address
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    no_detection = _IFA_F_NODAD if family is socket.AF_INET6 else 0
    head = _IFADDRMSG.pack(family, address.max_prefixlen, no_detection, 0, link.interface)
    body = _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
    if link.protocol:
        body += _attribute(_IFA_PROTO, bytes((link.protocol,)))
    with netlink.connect(netns, _NETLINK_ROUTE) as connection:
        netlink.send(connection, kind, flags, head + body)
        for answer, payload in netlink.receive(connection):
            if answer == netlink.ERROR and (code := netlink.errno_of(payload)):
                raise DatapathError(f"address {address} on interface {link.interface}", code)


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _link_address(answer: bytes) -> Iterator[LinkAddress]:
    interface: int = _IFADDRMSG.unpack_from(answer)[4]
    attributes = netlink.attributes(answer[_IFADDRMSG.size :])
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
    protocol = attributes.get(_IFA_PROTO, b"\0")[0]
    if len(raw) in {4, 16}:
        address = ipaddress.ip_address(raw)
        yield LinkAddress(address=address, interface=interface, protocol=protocol)
