"""Addresses of a network namespace.

Source: rtnetlink(7), RTM_GETADDR.
"""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

from penstock.bpf import netlink

_NETLINK_ROUTE, _RTM_GETADDR = 0, 22
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, interface
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


def host_addresses(netns: Path) -> set[str]:
    """Return the addresses of a network namespace, without loopback and link-local ones.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    with netlink.connect(netns, _NETLINK_ROUTE) as connection:
        answers = netlink.dump(connection, _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0))
        found = {_address(netlink.attributes(answer[_IFADDRMSG.size :])) for answer in answers}
    return {str(a) for a in found if a and not (a.is_loopback or a.is_link_local)}


def _address(
    attributes: dict[int, bytes],
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
    return ipaddress.ip_address(raw) if len(raw) in {4, 16} else None
