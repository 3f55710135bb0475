"""Addresses of the lab's pods: the same name gets the same address in every run."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

import msgspec

from penstock.core.addresses import StableAllocator
from penstock.meta.errors import PenstockError

POD_RANGES = ("10.244.0.0/16", "fd44::/64")
NODE_ADDRESSES = ("10.244.0.1", "fd44::1")
_RESERVED = ("10.244.0.0/24", "fd44::/112")
"""For the node and what answers on it, as the cluster DNS."""


class PodAddresses(msgspec.Struct, frozen=True, order=True):
    """The two addresses of a pod."""

    ipv4: str
    ipv6: str


class NoAddressLeftError(PenstockError):
    """More pods than addresses."""


def assign(keys: Iterable[str], held: Mapping[str, PodAddresses]) -> dict[str, PodAddresses]:
    """Return addresses for *keys*, which depend on the keys and on nothing else if none are held.

    Args:
        keys: "namespace/name" of each pod; their order does not matter.
        held: addresses that are in use, also by keys that are not asked for; they stay.

    Raises:
        NoAddressLeftError: the range is full.
    """
    wanted = sorted(set(keys))
    new = [key for key in wanted if key not in held]
    ipv4 = _allocate(0, new, [one.ipv4 for one in held.values()])
    ipv6 = _allocate(1, new, [one.ipv6 for one in held.values()])
    given = {key: PodAddresses(ipv4[key], ipv6[key]) for key in new}
    return {key: held[key] if key in held else given[key] for key in wanted}


def family_of(address: str) -> int:
    """Return AF_INET6 or AF_INET, also for a prefix."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _allocate(family: int, keys: Iterable[str], in_use: Iterable[str]) -> dict[str, str]:
    allocator = StableAllocator(POD_RANGES[family], reserved=(_RESERVED[family],))
    for address in in_use:
        allocator.hold(address)
    for key in keys:
        allocator.add(key)
    given: dict[str, str] = {}
    for key in keys:
        found = allocator.get(key)
        if found is None:
            raise NoAddressLeftError(f"no address is left in {POD_RANGES[family]} for pod {key}")
        given[key] = found
    return given
