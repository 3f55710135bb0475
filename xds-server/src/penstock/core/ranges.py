"""Pools of addresses, written as networks and ranges."""

from __future__ import annotations

import bisect
import ipaddress
import itertools

from penstock.meta.errors import PenstockError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RangesError(PenstockError):
    """A text does not name addresses."""

    def __init__(self, text: str, why: str) -> None:
        """Say what is wrong with *text*."""
        super().__init__(
            f"{text!r}: {why}; write networks, ranges and addresses of one family, as "
            "192.0.2.0/26,192.0.2.100-192.0.2.110"
        )


class AddressRanges:
    """Addresses of one family, numbered from 0 in the order in which they are written."""

    def __init__(self, text: str) -> None:
        """Read "192.0.2.0/26,192.0.2.100-192.0.2.110,192.0.2.200".

        Raises:
            RangesError: it is something else, names an address twice, or mixes families.
        """
        self._text = text
        self._spans = [_span(part.strip()) for part in text.split(",")]
        families = {first.version for first, _ in self._spans}
        if len(families) > 1:
            raise RangesError(text, "there are IPv4 and IPv6 addresses")
        self._version = families.pop()
        for (_, last), (first, _) in itertools.pairwise(sorted(self._spans, key=_first)):
            if int(first) <= int(last):
                raise RangesError(text, f"{first} is in it twice")
        sizes = (int(last) - int(first) + 1 for first, last in self._spans)
        self._ends = list(itertools.accumulate(sizes))

    def __len__(self) -> int:
        """Return how many addresses there are."""
        return self._ends[-1]

    def __str__(self) -> str:
        """Return the addresses as they were written."""
        return self._text

    def __contains__(self, address: str) -> bool:
        """Return whether *address* is one of them."""
        return self.index(address) is not None

    def __getitem__(self, index: int) -> str:
        """Return the address with number *index*."""
        at = bisect.bisect_right(self._ends, index)
        first, _ = self._spans[at]
        return str(first + (index - (self._ends[at - 1] if at else 0)))

    def index(self, address: str) -> int | None:
        """Return the number of *address*; None if it is not one of them, or no address."""
        try:
            wanted = ipaddress.ip_address(address)
        except ValueError:
            return None
        if wanted.version != self._version:
            return None
        before = 0
        for (first, last), end in zip(self._spans, self._ends, strict=True):
            if int(first) <= int(wanted) <= int(last):
                return before + int(wanted) - int(first)
            before = end
        return None


def _span(part: str) -> tuple[Address, Address]:
    first, dash, last = part.partition("-")
    try:
        if dash:
            ends = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        else:
            network = ipaddress.ip_network(part)
            ends = network[0], network[-1]
    except ValueError as error:
        raise RangesError(part, str(error)) from None
    if ends[0].version != ends[1].version or int(ends[1]) < int(ends[0]):
        raise RangesError(part, "the second address is not behind the first")
    return ends


def _first(span: tuple[Address, Address]) -> int:
    return int(span[0])
