"""Helpers of a compiler that finish before it goes on, so that a test knows what is lent."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_LENGTH = struct.Struct("<I")


class Lender:
    """Has a copy of this process make everything, and gives the first *parts* of it."""

    def __init__(self, parts: int | None = None) -> None:
        self.parts = parts
        self.stopped = 0
        self._items: list[bytes] = []

    def start(self, work: Iterator[bytes]) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            _write_all(work, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            sent = pipe.read()
        _, status = os.waitpid(pid, 0)
        assert status == 0
        while sent:
            end = _LENGTH.size + _LENGTH.unpack_from(sent)[0]
            self._items.append(sent[_LENGTH.size : end])
            sent = sent[end:]

    def received(self) -> Sequence[bytes]:
        items, self._items = self._items[: self.parts], []
        return items

    def stop(self) -> None:
        self.stopped += 1


class Nobody:
    """A helper of which nothing ever comes."""

    def start(self, work: Iterator[bytes]) -> None:
        """Do nothing."""

    def received(self) -> Sequence[bytes]:
        return ()

    def stop(self) -> None:
        """Do nothing."""


def _write_all(work: Iterator[bytes], pipe: int) -> None:
    status = 1
    try:
        with Path(f"/dev/fd/{pipe}").open("wb") as out:
            out.writelines(_LENGTH.pack(len(item)) + item for item in work)
        status = 0
    finally:
        os._exit(status)
