"""Log files of containers: where they are, rotation by size, reading and following."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

ROTATE_BYTES = 10 * 1024 * 1024
_POLL_SECONDS = 0.1
"""A file says nothing when it grows, without inotify, which Python does not have."""
_CHUNK = 65536


def log_path(folder: Path, namespace: str, pod: str, container: str) -> Path:
    """Return the log file of a container."""
    return folder / f"{namespace}_{pod}_{container}.log"


def rotate(log: Path, limit: int = ROTATE_BYTES) -> bool:
    """Move the contents of *log* to `<log>.1` if it is longer than *limit*; return whether.

    The file itself stays, as its writer holds it open for appending: what is written between copy
    and truncation is lost.
    """
    try:
        if log.stat().st_size <= limit:
            return False
        kept = _kept(log)
        beside = log.with_name(f".{log.name}.1")
        beside.write_bytes(log.read_bytes())
        beside.replace(kept)
        os.truncate(log, 0)
    except FileNotFoundError:
        return False
    return True


def read(log: Path) -> Iterator[bytes]:
    """Yield what *log* and its predecessor hold now, in pieces."""
    for path in (_kept(log), log):
        if path.exists():
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk


def follow(log: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
    """Yield what *log* holds and then what is added to it, until *stop* says so.

    Rotation and a file that does not exist yet are no end.
    """
    position = 0
    kept = _kept(log)
    before = _inode(kept)
    while True:
        last_round = stop()
        if _inode(kept) != before:
            before = _inode(kept)
            position = yield from _rest_of(kept, position)
        chunk = _read_from(log, position)
        position += len(chunk)
        if chunk:
            yield chunk
        elif last_round:
            return
        else:
            time.sleep(_POLL_SECONDS)


def _rest_of(log: Path, position: int) -> Generator[bytes, None, int]:
    """Yield what a rotated file holds behind *position*; return where its successor begins."""
    while chunk := _read_from(log, position):
        position += len(chunk)
        yield chunk
    return 0


def _kept(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def _read_from(log: Path, position: int) -> bytes:
    """Return what a file holds behind *position*, at most one piece; b"" if it does not exist."""
    try:
        with log.open("rb") as file:
            file.seek(position)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""
