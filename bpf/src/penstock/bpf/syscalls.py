"""System calls that Python 3.11 does not offer: mount, setns."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from penstock.bpf.errors import DatapathError

CLONE_NEWNET = 0x40000000
BPF_FS_MAGIC = 0xCAFE4A11
_MNT_DETACH = 2
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8

_libc = ctypes.CDLL(None, use_errno=True)


class _StatFs(ctypes.Structure):
    """The first field of struct statfs and room for the rest."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_ubyte * 248))


def filesystem_type(path: Path) -> int:
    """Return the magic number of the filesystem that holds *path*; 0 if there is no such path."""
    result = _StatFs()
    if _libc.statfs(os.fsencode(path), ctypes.byref(result)) != 0:
        return 0
    magic: int = result.f_type
    return magic & 0xFFFFFFFF


def mount_bpffs(path: Path) -> None:
    """Mount a bpffs of its own at *path*, mode 0700, unless *path* is in one already."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if filesystem_type(path) == BPF_FS_MAGIC:
        return
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if _libc.mount(b"bpffs", os.fsencode(path), b"bpf", flags, b"mode=0700") != 0:
        raise DatapathError(f"mount bpffs at {path}", ctypes.get_errno())


def unmount_bpffs(path: Path) -> None:
    """Unmount the bpffs at *path*; anything else that is mounted there stays."""
    if filesystem_type(path) != BPF_FS_MAGIC or not path.is_mount():
        return
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        raise DatapathError(f"unmount {path}", ctypes.get_errno())


def enter_netns(fd: int) -> None:
    """Move the calling thread into a network namespace."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise DatapathError("setns", ctypes.get_errno())
