"""Attachment of programs by pinned links: they go on working when the agent is away."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from penstock.bpf.errors import DatapathError
from penstock.bpf.libbpf import Program, library


class _LinkInfo(ctypes.Structure):
    """The head of struct bpf_link_info of linux/bpf.h and room for the rest."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),  # the union is aligned to 8 bytes
        ("target", ctypes.c_uint64),  # of a cgroup; of a network namespace its first 4 bytes
        ("rest", ctypes.c_uint8 * 128),
    )


_LINK_TYPE_NETNS = 5
_GONE = frozenset({errno.ENOLINK, errno.ENOENT})


@contextmanager
def _opened(path: Path) -> Generator[int, None, None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise DatapathError(f"{path}: cannot attach there", error.errno or 0) from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _pinned(pin: Path) -> Generator[int, None, None]:
    """Open the link pinned at *pin*; an open link keeps its program attached, so close it soon."""
    fd = library().call("bpf_obj_get", os.fsencode(pin), what=f"{pin}: open")
    try:
        yield fd
    finally:
        os.close(fd)


def _target_of(link: int, pin: Path) -> int:
    """Return the inode of what a link is attached to, 0 if that is gone."""
    info = _LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    library().call(
        "bpf_obj_get_info_by_fd", link, ctypes.byref(info), ctypes.byref(size), what=f"{pin}: info"
    )
    target: int = info.target
    return target & 0xFFFFFFFF if info.type == _LINK_TYPE_NETNS else target


def attach(program: Program, target: Path, pin: Path) -> None:
    """Attach *program* to a cgroup or network namespace and pin the link; twice equals once.

    A link that is pinned there for another target, or one that is gone, is replaced.

    Raises:
        DatapathError: the kernel refused.
    """
    with _opened(target) as target_fd:
        if pin.exists():
            with _pinned(pin) as link:
                if _target_of(link, pin) == os.fstat(target_fd).st_ino:
                    return
            detach(pin)
        made = library().call(
            "bpf_link_create",
            program.fd,
            target_fd,
            program.attach_type,
            None,
            what=f"attach {pin.name} to {target}",
        )
        try:
            library().call("bpf_obj_pin", made, os.fsencode(pin), what=f"pin {pin}")
        finally:
            os.close(made)


def detach(pin: Path) -> None:
    """Detach what the pinned link attaches and remove the pin; nothing happens without a pin.

    Removing the pin alone would detach too, but some time later.
    """
    if not pin.exists():
        return
    try:
        with _pinned(pin) as link:
            library().call("bpf_link_detach", link, what=f"{pin}: detach")
    except DatapathError as error:
        if error.errno not in _GONE:
            raise
    pin.unlink()


def update(program: Program, pin: Path) -> bool:
    """Put *program* in the place of the one that the pinned link runs, atomically.

    Returns:
        False if what it was attached to is gone; the pin is removed then.
    """
    try:
        with _pinned(pin) as link:
            library().call("bpf_link_update", link, program.fd, None, what=f"{pin}: update")
    except DatapathError as error:
        if error.errno not in _GONE:
            raise
        pin.unlink()
        return False
    return True
