"""Addresses for names, the same whatever the order in which the names came.

Every name has a sequence of candidate addresses (a hash of the name). A slot keeps the smallest
name that ever asks for it; whoever loses it goes on to its next candidate; a slot that becomes free
goes to the smallest of those that it refused. The outcome is the one where the names choose in
sorted order, so that replicas and restarts agree without talking.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

_HASHED = 64
"""So many candidates are hashes; then every address of the network follows in turn."""


class StableAllocator:
    """Addresses of one network for a set of names."""

    def __init__(self, network: str, reserved: Iterable[str] = ()) -> None:
        """Start empty.

        Args:
            network: in prefix notation, as `10.96.0.0/12`.
            reserved: networks or addresses inside it that are never given.
        """
        self._network = ipaddress.ip_network(network)
        self._first = int(self._network.network_address)
        self._size = self._network.num_addresses
        self._limit = _HASHED + self._size
        self._never = [self._range(ipaddress.ip_network(one)) for one in reserved]
        self._held: set[int] = set()
        self._owner: dict[int, str] = {}
        self._place: dict[str, int] = {}
        """Position of each name in its sequence; the limit if there is no address for it."""
        self._refused: dict[int, dict[str, int]] = {}
        """By slot: the names that it refused, with their position in the sequence."""

    def get(self, name: str) -> str | None:
        """Return the address of *name*; None if it is not known or the network is full."""
        place = self._place.get(name, self._limit)
        if place >= self._limit:
            return None
        return str(self._network[self._candidate(name, place)])

    def add(self, name: str) -> frozenset[str]:
        """Give *name* an address and return the names whose address changed."""
        return frozenset() if name in self._place else self._settle(name, 0)

    def remove(self, name: str) -> frozenset[str]:
        """Take the address of *name* back and return the names whose address changed."""
        place = self._place.pop(name, None)
        if place is None:
            return frozenset()
        self._forget(name, 0, place)
        changed = {name}
        if place < self._limit:
            slot = self._candidate(name, place)
            del self._owner[slot]
            changed |= self._fill(slot)
        return frozenset(changed)

    def hold(self, address: str) -> frozenset[str]:
        """Keep *address* from names, as it was given by hand; return the names that moved."""
        slot = self._slot(address)
        if slot is None or slot in self._held:
            return frozenset()
        self._held.add(slot)
        owner = self._owner.pop(slot, None)
        if owner is None:
            return frozenset()
        place = self._place[owner]
        self._refuse(slot, owner, place)
        return self._settle(owner, place + 1)

    def release(self, address: str) -> frozenset[str]:
        """Let names have *address* again and return the names that moved."""
        slot = self._slot(address)
        if slot is None or slot not in self._held:
            return frozenset()
        self._held.remove(slot)
        return frozenset(self._fill(slot))

    def _settle(self, name: str, place: int) -> frozenset[str]:
        """Let *name* ask from *place* on, and whoever it displaces after it."""
        changed: set[str] = set()
        while True:
            changed.add(name)
            place = self._next_place(name, place)
            self._place[name] = place
            if place >= self._limit:
                return frozenset(changed)
            slot = self._candidate(name, place)
            loser = self._owner.get(slot)
            self._owner[slot] = name
            if loser is None:
                return frozenset(changed)
            lost = self._place[loser]
            self._refuse(slot, loser, lost)
            name, place = loser, lost + 1

    def _next_place(self, name: str, place: int) -> int:
        """Return the first position from *place* on whose slot takes *name*."""
        while place < self._limit:
            slot = self._candidate(name, place)
            if not self._is_never(slot):
                owner = self._owner.get(slot)
                if slot not in self._held and (owner is None or name < owner):
                    return place
                self._refuse(slot, name, place)
            place += 1
        return place

    def _fill(self, slot: int) -> set[str]:
        """Give the free *slot* to the smallest name that it refused, then the slot of that name."""
        changed: set[str] = set()
        vacant: int | None = slot
        while vacant is not None and (waiting := self._refused.get(vacant)):
            name = min(waiting)
            place, before = waiting[name], self._place[name]
            old = self._candidate(name, before) if before < self._limit else None
            self._forget(name, place, before)
            self._owner[vacant] = name
            self._place[name] = place
            changed.add(name)
            if old is not None:
                del self._owner[old]
            vacant = None if old is None or old in self._held else old
        return changed

    def _refuse(self, slot: int, name: str, place: int) -> None:
        self._refused.setdefault(slot, {}).setdefault(name, place)

    def _forget(self, name: str, start: int, stop: int) -> None:
        """Forget that slots between two positions of its sequence refused *name*."""
        for place in range(start, stop):
            slot = self._candidate(name, place)
            waiting = self._refused.get(slot)
            if waiting is not None and waiting.get(name, -1) >= start:
                del waiting[name]
                if not waiting:
                    del self._refused[slot]

    def _candidate(self, name: str, place: int) -> int:
        if place >= _HASHED:
            return (self._candidate(name, 0) + place - _HASHED) % self._size
        digest = hashlib.sha256(f"{name}\0{place}".encode()).digest()
        return int.from_bytes(digest[:16], "big") % self._size

    def _slot(self, address: str) -> int | None:
        parsed = ipaddress.ip_address(address)
        if parsed not in self._network:
            return None
        return int(parsed) - self._first

    def _is_never(self, slot: int) -> bool:
        return any(slot in span for span in self._never)

    def _range(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> range:
        start = int(network.network_address) - self._first
        return range(start, start + network.num_addresses)
