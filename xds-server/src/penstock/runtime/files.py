"""Files that are replaced whole: what is read is the old version or the new one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6})
"""TMPFS_MAGIC and RAMFS_MAGIC. Source: linux/magic.h."""
_STATFS_BYTES = 256
"""More than a struct statfs has on any machine."""


def replace_file(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file beside *path* and put it in its place.

    Args:
        path: in a folder that exists.
        content: of the file.
        mode: of the file.
        durable: whether it survives a crash of the machine from the return on.

    Raises:
        OSError: the file system refused.
    """
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(path)
    if durable:
        sync_folder(path.parent)


def replace_link(path: Path, target: Path) -> None:
    """Make *path* a symbolic link to *target*, whatever link was there.

    Raises:
        OSError: the file system refused.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def sync_folder(folder: Path) -> None:
    """Make renames inside *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def in_memory(folder: Path) -> bool:
    """Return whether files in *folder* are in memory and on no disk (tmpfs or ramfs).

    Raises:
        OSError: there is no such folder.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if libc.statfs(os.fsencode(folder), answer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(folder))
    # f_type is the first field, a long.
    kind = ctypes.c_ulong.from_buffer(answer).value
    return kind & 0xFFFFFFFF in _MEMORY_FILE_SYSTEMS
