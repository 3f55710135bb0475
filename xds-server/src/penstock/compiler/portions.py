"""Many things in portions, so that what is made of a portion is kept while it stays the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

CROWD = 64
"""Things of which fewer are looked at one by one: that is less work."""
PORTION = 32
"""Roughly how many things are in a portion when there are few portions."""


def portions(things: Iterable[T], name: Callable[[T], str]) -> list[tuple[T, ...]]:
    """Return *things* in portions, in their order in each.

    A thing that comes or goes changes one portion. When there are many more things than before, all
    portions are divided, so their number grows with that of the things.

    Args:
        things: what to divide, without repetitions.
        name: returns by what a thing always comes to the same portion.
    """
    every = tuple(things)
    count = 1 << (len(every) // PORTION).bit_length()
    found: list[list[T]] = [[] for _ in range(count)]
    for one in every:
        found[zlib.crc32(name(one).encode()) % count].append(one)
    return [tuple(some) for some in found if some]
