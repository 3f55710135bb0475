"""Neighbours on a link: told who has an address, and asked.

Source: RFC 5227 sections 2.1.1 (ARP probe) and 3 (announcement), RFC 4861 sections 4.3, 4.4 and
7.2.6 (neighbour solicitation and advertisement).
"""

from __future__ import annotations

import fcntl
import selectors
import socket
import struct
import time
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from penstock.bpf.addresses import IPAddress, hardware_addresses
from penstock.bpf.errors import DatapathError
from penstock.bpf.namespaces import socket_in

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ETHERNET = 6
"""Bytes of a hardware address."""
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_AT = 14
"""Where ARP begins in a frame."""
_ARP_REQUEST, _ARP_REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_MESSAGE = struct.Struct("!BBHI16sBB6s")  # type, code, checksum, flags, target, option
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_OVERRIDE = 0x2000_0000
_ALL_NODES = "ff02::1"
_SIOCGIFNAME = 0x8910
_LONGEST = 2048
"""Bytes that are read of a packet."""


def announce(netns: Path, interface: int, address: IPAddress) -> None:
    """Tell the neighbours on the link that *address* is here now.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    try:
        with _packets(netns, interface, 0) as packet:
            hardware = _hardware(packet)
            if not hardware:
                return  # there are no neighbours to tell
            if isinstance(address, IPv4Address):
                for frame in _arp_frames(hardware, address):
                    packet.send(frame)
        if isinstance(address, IPv6Address):
            _advertise(netns, interface, hardware, address)
    except OSError as error:
        raise DatapathError(f"announce {address}", error.errno or 0) from error


def answered_by_others(
    netns: Path, interface: int, addresses: Collection[IPAddress], seconds: float
) -> set[IPAddress]:
    """Return for which of *addresses* another machine on the link answers within *seconds*.

    We need not have them; if we do, our own answers do not count, also those of another of our
    links: Linux answers on each for the addresses of all. It blocks.

    Raises:
        DatapathError: no such namespace or link, or the kernel refuses.
    """
    four = {one for one in addresses if isinstance(one, IPv4Address)}
    six = {one for one in addresses if isinstance(one, IPv6Address)}
    try:
        with (
            _packets(netns, interface, _ETH_P_ARP) as arp,
            socket_in(netns, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as icmp,
        ):
            hardware = _hardware(arp)
            if not hardware:
                return set()
            ours = hardware_addresses(netns)
            for old in four:
                arp.send(_probe(hardware, old))
            if six:
                _prepare(icmp, interface)
            for new in six:
                icmp.sendto(*_solicitation(hardware, new, interface))
            return {
                address
                for address, sender in _answers(arp, icmp, seconds)
                if sender not in ours and address in addresses
            }
    except OSError as error:
        raise DatapathError(f"ask for addresses on interface {interface}", error.errno or 0) from (
            error
        )


def _answers(
    arp: socket.socket, icmp: socket.socket, seconds: float
) -> Iterator[tuple[IPAddress, bytes]]:
    """Yield (address, hardware address) of who says for *seconds* that he has an address."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as either:
        either.register(arp, selectors.EVENT_READ)
        either.register(icmp, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            for ready, _ in either.select(left):
                if ready.fileobj is arp:
                    yield from _arp_answer(arp.recv(_LONGEST))
                else:
                    yield from _advertisement(icmp.recv(_LONGEST))


def _arp_answer(frame: bytes) -> Iterator[tuple[IPAddress, bytes]]:
    if len(frame) >= _ARP_AT + _ARP.size:
        fields = _ARP.unpack_from(frame, _ARP_AT)
        yield IPv4Address(fields[6]), fields[5]


def _advertisement(message: bytes) -> Iterator[tuple[IPAddress, bytes]]:
    if len(message) >= _MESSAGE.size and message[0] == _ADVERTISEMENT:
        fields = _MESSAGE.unpack_from(message)
        if fields[5] == _TARGET_OPTION:
            yield IPv6Address(fields[4]), fields[7]


def _packets(netns: Path, interface: int, protocol: int) -> socket.socket:
    """Return a socket for the frames of a link; of *protocol* only, which may be none."""
    made = socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    try:
        made.bind((_interface_name(made, interface), protocol))
    except OSError:
        made.close()
        raise
    return made


def _hardware(packets: socket.socket) -> bytes:
    """Return the hardware address of a link; nothing if it is no Ethernet."""
    found: bytes = packets.getsockname()[4]
    return found if len(found) == _ETHERNET else b""


def _probe(hardware: bytes, address: IPv4Address) -> bytes:
    """Return the question who has an address, by somebody who does not say that he has it."""
    ethernet = _BROADCAST + hardware + struct.pack("!H", _ETH_P_ARP)
    nobody, unknown = bytes(4), bytes(6)
    asked = (hardware, nobody, unknown, address.packed)
    return ethernet + _ARP.pack(1, 0x0800, 6, 4, _ARP_REQUEST, *asked)


def _solicitation(
    hardware: bytes, address: IPv6Address, interface: int
) -> tuple[bytes, tuple[str, int, int, int]]:
    """Return the same question for IPv6, and where it is sent."""
    message = _MESSAGE.pack(_SOLICITATION, 0, 0, 0, address.packed, _SOURCE_OPTION, 1, hardware)
    group = IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + address.packed[13:])
    return message, (str(group), 0, 0, interface)


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
    message = _MESSAGE.pack(
        _ADVERTISEMENT, 0, 0, _OVERRIDE, address.packed, _TARGET_OPTION, 1, hardware
    )
    with socket_in(netns, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        _prepare(raw, interface)
        raw.bind((str(address), 0))
        raw.sendto(message, (_ALL_NODES, 0, 0, interface))


def _prepare(icmp: socket.socket, interface: int) -> None:
    """Let a socket speak to the neighbours on a link."""
    icmp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    icmp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
