"""Objects of a list, read while the rest of it is still on its way.

A server writes a list object by object, and takes longer to write it than it is on its way: whoever
waits for the end has nothing to do meanwhile, and everything afterwards. All objects of a list
begin alike, with their type or at once with `metadata`, so where one ends and another begins can be
found without reading what is between. Nothing depends on that: what is cut out counts if it is an
object, and what cannot be cut so is read at the end of the list, as a whole.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.sources.kubernetes.messages import Page, UnreadableAnswerError, read_page

_ITEMS = b'"items":['
_METADATA = b'"metadata":'
_LONGEST_OPENING = 1000
"""Bytes; apiVersion and kind of an object, where a list repeats them."""


class Listing:
    """One answer to a request for a list."""

    def __init__(self, take: Callable[[msgspec.Raw], None]) -> None:
        """Have nothing yet.

        Args:
            take: is given each object, in order; raises UnreadableAnswerError if it is none.
        """
        self._take = take
        self._head = b""
        """What came up to the first object, once that is known."""
        self._opening = b""
        """How each object begins; "" if that is not known, or nothing is cut out any more."""
        self._rest = bytearray()
        """What came since, without the opening of its first object."""

    def chunk(self, some: bytes) -> None:
        """Take bytes of the list; they need not end with an object."""
        self._rest += some
        if not self._head:
            self._begin()
        if self._opening:
            self._cut()

    def end(self) -> Page:
        """Take that the list is over; return it without objects that were given away before.

        Raises:
            UnreadableAnswerError: it is no list, or cut off.
        """
        page = read_page(self._head + self._opening + self._rest)
        for raw in page.items or ():
            self._take(raw)
        return page

    def _begin(self) -> None:
        """Look how objects begin, if that is here."""
        items = self._rest.find(_ITEMS)
        if items < 0:
            return
        start = items + len(_ITEMS)
        found = self._rest.find(_METADATA, start, start + _LONGEST_OPENING)
        if found < 0:
            return
        end = found + len(_METADATA)
        self._head, self._opening = bytes(self._rest[:start]), bytes(self._rest[start:end])
        del self._rest[:end]

    def _cut(self) -> None:
        """Give away the objects that are here as a whole."""
        opening = self._opening
        between = b"}," + opening
        pieces = self._rest.split(between)
        last = pieces.pop()
        for position, piece in enumerate(pieces):
            try:
                self._take(msgspec.Raw(opening + piece + b"}"))
            except UnreadableAnswerError:
                # No object ends here, or it is not like one: the end of the list will tell.
                self._head += opening
                self._opening = b""
                self._rest = bytearray(between.join([*pieces[position:], last]))
                return
        self._rest = last
