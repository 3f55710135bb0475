"""Log files of containers: where they are, rotation by size, reading and following."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROTATE_BYTES = 10 * 1024 * 1024
_POLL_SECONDS = 0.1
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
        kept = log.with_name(f"{log.name}.1")
        beside = log.with_name(f".{log.name}.1")
        beside.write_bytes(log.read_bytes())
        beside.replace(kept)
        os.truncate(log, 0)
    except FileNotFoundError:
        return False
    return True


def read(log: Path) -> Iterator[bytes]:
    """Yield what *log* and its predecessor hold now, in pieces."""
    for path in (log.with_name(f"{log.name}.1"), log):
        if path.exists():
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk


def follow(log: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[bytes]:
    """Yield what *log* holds and then what is added to it, until *stop* says so.

    Rotation and a file that does not exist yet are no end.
    """
    position = 0
    while True:
        last_round = stop()
        size = log.stat().st_size if log.exists() else 0
        if size < position:
            position = 0
        if size > position:
            with log.open("rb") as file:
                file.seek(position)
                chunk = file.read(_CHUNK)
            position += len(chunk)
            yield chunk
            continue
        if last_round:
            return
        time.sleep(_POLL_SECONDS)
