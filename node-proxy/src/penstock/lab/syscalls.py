"""Linux calls that Python 3.11 has no function for: namespaces and mounts.

Only the standard library is used: `launch` loads this file by its path in an isolated interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC = 32, 4096, 8192, 16384
MS_PRIVATE, MS_SLAVE = 1 << 18, 1 << 19
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind *fd*.

    Args:
        fd: an open file of /proc/<pid>/ns or a bind mount of one.
        kind: the CLONE_NEW flag of the namespace.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc.setns(fd, kind), "setns")


def sethostname(name: str) -> None:
    """Name the host in the calling thread's UTS namespace.

    Raises:
        OSError: the kernel refused.
    """
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Let *source* appear at *target*.

    Args:
        source: what to mount; a file or folder with MS_BIND or MS_MOVE.
        target: an existing file or folder.
        kind: type of file system; "" where flags say it all.
        flags: MS_ flags.
        data: options of the file system, as "size=64k".

    Raises:
        OSError: the kernel refused; the text names source and target.
    """
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None
    )
    _check(result, f"mount {source or kind} on {target}")


def keep_mounts_apart() -> None:
    """Let no mount that is made from now on appear in other mount namespaces.

    For the calling thread's new mount namespace. Works inside a chroot too, where "/" is no mount
    point: what has to be changed is then the mount that holds the chroot's folder.

    Raises:
        OSError: the kernel refused.
    """
    try:
        mount("", "/", flags=MS_REC | MS_SLAVE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _from_outside_a_chroot(lambda: mount("", "/", flags=MS_REC | MS_SLAVE))


def _from_outside_a_chroot(step: Callable[[], None]) -> None:
    """Run *step* with the root of the mount namespace as "/", then go back.

    A folder below becomes the root for a moment, so that the current one is outside of it and the
    way up is open.
    """
    os.chdir("/")
    inside = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chroot("proc")
        while not os.path.samefile(".", ".."):  # noqa: PTH121 - of . and ..
            os.chdir("..")
        os.chroot(".")
        step()
        os.fchdir(inside)
        os.chroot(".")
    finally:
        os.close(inside)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """Remove the topmost mount at *target*.

    Raises:
        OSError: the kernel refused.
    """
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def mounts_below(root: str) -> list[str]:
    """Return the mount points at or below *root*, the last mounted first."""
    found: list[str] = []
    with open("/proc/thread-self/mountinfo", encoding="utf-8") as lines:  # noqa: PTH123 - pathlib would double the time of a start
        for line in lines:
            point = _unescape(line.split(" ")[4])
            if point == root or point.startswith(root + "/"):
                found.append(point)
    return found[::-1]


def _unescape(field: str) -> str:
    """Return a path of mountinfo with its octal escapes resolved. Source: proc(5)."""
    parts = field.split("\\")
    return parts[0] + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts[1:])
