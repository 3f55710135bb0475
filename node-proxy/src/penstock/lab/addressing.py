"""Addresses of the lab's pods: the same name gets the same address in every run."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

_BASE4 = int(ipaddress.IPv4Address("10.244.0.0"))
_BASE6 = int(ipaddress.IPv6Address("fd44::"))
_FIRST, _SIZE = 256, 65_000
"""10.244.0.x is for the node and its services."""


class PodAddresses(msgspec.Struct, frozen=True, order=True):
    """The two addresses of a pod."""

    ipv4: str
    ipv6: str


def assign(keys: Iterable[str], held: Mapping[str, PodAddresses]) -> dict[str, PodAddresses]:
    """Return addresses for *keys*, which depend on the keys and on nothing else if none are held.

    Args:
        keys: "namespace/name" of each pod; their order does not matter.
        held: addresses that are in use, also by keys that are not asked for.
    """
    taken = {_index(addresses): key for key, addresses in held.items()}
    given: dict[str, PodAddresses] = {}
    for key in sorted(set(keys)):
        if key in held:
            given[key] = held[key]
            continue
        index = _first_choice(key)
        while index in taken:
            index = _FIRST + (index - _FIRST + 1) % _SIZE
        taken[index] = key
        given[key] = _addresses(index)
    return given


def _first_choice(key: str) -> int:
    return _FIRST + int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _SIZE


def _addresses(index: int) -> PodAddresses:
    return PodAddresses(
        str(ipaddress.IPv4Address(_BASE4 + index)), str(ipaddress.IPv6Address(_BASE6 + index))
    )


def _index(addresses: PodAddresses) -> int:
    return int(ipaddress.IPv4Address(addresses.ipv4)) - _BASE4
