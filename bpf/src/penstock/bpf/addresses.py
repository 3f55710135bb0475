"""Addresses of a network namespace: read, added, removed, announced.

Source: rtnetlink(7), RTM_GETADDR and RTM_NEWADDR; linux/if_addr.h; RFC 5227 section 3 (ARP
announcement), RFC 4861 section 7.2.6 (unsolicited neighbour advertisement).
"""

from __future__ import annotations

import errno
import fcntl
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
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_IFA_F_NODAD = 0x02
_NLM_REPLACE, _NLM_CREATE = 0x100, 0x400
_ATTRIBUTE = struct.Struct("=HH")
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ETHERNET = 6
"""Bytes of a hardware address."""
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ADVERTISEMENT = struct.Struct("!BBHI16sBB6s")  # type, code, checksum, flags, target, option
_ALL_NODES = "ff02::1"
_SIOCGIFNAME = 0x8910


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


def announce(netns: Path, interface: int, address: IPAddress) -> None:
    """Tell the neighbours on the link that *address* is here now.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    try:
        with socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW) as packet:
            name = _interface_name(packet, interface)
            packet.bind((name, 0))
            hardware: bytes = packet.getsockname()[4]
            if len(hardware) != _ETHERNET:
                return  # no Ethernet: there are no neighbours to tell
            if isinstance(address, IPv4Address):
                for frame in _arp_frames(hardware, address):
                    packet.send(frame)
        if isinstance(address, IPv6Address):
            _advertise(netns, interface, hardware, address)
    except OSError as error:
        raise DatapathError(f"announce {address}", error.errno or 0) from error


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


def _interface_name(inside: socket.socket, interface: int) -> str:
    """Return the name of an interface in the namespace of a socket: SIOCGIFNAME."""
    request = struct.pack("16si20x", b"", interface)
    answer = fcntl.ioctl(inside, _SIOCGIFNAME, request)
    return answer[:16].partition(b"\0")[0].decode()


def _arp_frames(hardware: bytes, address: IPv4Address) -> Iterator[bytes]:
    """Yield an announcement in both forms: some hosts look at one of them only."""
    ip = address.packed
    ethernet = _BROADCAST + hardware + struct.pack("!H", _ETH_P_ARP)
    for operation, target in ((_ARP_REQUEST, bytes(6)), (_ARP_REPLY, _BROADCAST)):
        yield ethernet + _ARP.pack(1, 0x0800, 6, 4, operation, hardware, ip, target, ip)


def _advertise(netns: Path, interface: int, hardware: bytes, address: IPv6Address) -> None:
    override = 0x2000_0000
    message = _ADVERTISEMENT.pack(136, 0, 0, override, address.packed, 2, 1, hardware)
    with socket_in(netns, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
        raw.bind((str(address), 0))
        raw.sendto(message, (_ALL_NODES, 0, 0, interface))
