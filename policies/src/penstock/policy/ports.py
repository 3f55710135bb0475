"""Ports of policies: numbers, names, ranges, protocols.

Source: spec A.4.
"""

from __future__ import annotations

import re

import msgspec

from penstock.ir.policy import ANY_PORT, SCTP, TCP, UDP

PROTOCOLS = {"TCP": (TCP,), "UDP": (UDP,), "SCTP": (SCTP,), "ANY": (TCP, UDP, SCTP)}
"""IANA numbers by protocol as it is written; "" is ANY."""
EXTENDED_PROTOCOLS = frozenset({"VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"})

MAX_PORT = 65535
MAX_RANGE = 64
"""A range of more ports than this is not supported yet: each port is an entry in the kernel."""

_NUMBER = re.compile(r"(0|[1-9][0-9]{0,4})\Z")
_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


class PortMatch(msgspec.Struct, frozen=True, order=True):
    """One port of one protocol; number 0 without a name is every port of it."""

    number: int
    protocol: int
    name: str = ""
    """A container port's name, lower case, where the number is not given."""


def number_of(port: str) -> int | None:
    """Return the number that *port* is, or None if it is no number from 0 to 65535.

    A leading zero is not taken: other readers of policies take `010` for 8.
    """
    if not _NUMBER.match(port) or int(port) > MAX_PORT:
        return None
    return int(port)


def is_name(port: str) -> bool:
    """Return whether *port* can be the name of a port, in any case."""
    return _NAME.match(port.lower()) is not None


def last_of(port: str, end_port: int) -> int | None:
    """Return the last number of the range, or None if there is no range.

    endPort counts only beside a number that is not 0 and smaller.
    """
    first = number_of(port)
    return end_port if first and end_port > first else None


def matches_of(port: str, end_port: int, protocol: str) -> tuple[PortMatch, ...]:
    """Return what one valid element of `ports` covers."""
    protocols = PROTOCOLS[protocol or "ANY"]
    first = number_of(port)
    if first is None:
        return tuple(PortMatch(ANY_PORT, one, port.lower()) for one in protocols)
    last = last_of(port, end_port) or first
    return tuple(PortMatch(at, one) for at in range(first, last + 1) for one in protocols)
