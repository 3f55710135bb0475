"""Work in a copy of this process: another processor, and everything that is in memory here.

The copy computes and writes into a pipe. It must not touch what belongs to other threads of the
original, which it does not have: no event loop, no gRPC, no log.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import struct
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import structlog

from penstock.runtime.allowance import memory_left, resident

_LENGTH = struct.Struct("<I")
_PIPE_SIZE = 1 << 20
"""Bytes that wait in the pipe before the copy does."""
_ERRORS = 2
"""Standard error, the last file descriptor that every process has."""

_PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h."""
_LIBC = ctypes.CDLL(None)

_log = structlog.get_logger("penstock.forked")


class Forked:
    """At most one copy at a time; see `penstock.compiler.lent.Helper`."""

    def __init__(self) -> None:
        """Start without a copy."""
        self._pid = 0
        self._pipe = -1
        self._rest = bytearray()

    def start(self, work: Iterator[bytes]) -> None:
        """Have a copy make *work*; if there can be none, this is logged, and nothing is received.

        Items are at most 4 GiB.
        """
        try:
            needed, left = resident(), memory_left()
            if left >= needed:
                self._pid, self._pipe = _fork(work)
                return
            why = f"{needed >> 20} MiB may be needed twice, {left / 2**20:.0f} are left"
        except OSError as error:
            why = str(error)
        _log.warning("no second process: this one does all the work", reason=why)

    def received(self) -> list[bytes]:
        """Return the items that have come since the last call; does not wait."""
        if self._pipe < 0:
            return []
        with contextlib.suppress(BlockingIOError):
            while some := os.read(self._pipe, _PIPE_SIZE):
                self._rest += some
        items: list[bytes] = []
        begin = 0
        while len(self._rest) >= begin + _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, begin)
            end = begin + _LENGTH.size + length
            if len(self._rest) < end:
                break
            items.append(bytes(self._rest[begin + _LENGTH.size : end]))
            begin = end
        del self._rest[:begin]
        return items

    def stop(self) -> None:
        """Kill the copy, if there is one; its end, which takes a while, is not waited for."""
        if self._pipe < 0:
            return
        os.close(self._pipe)
        self._pipe = -1
        self._rest.clear()
        if not _is_buried(self._pid, os.WNOHANG):
            os.kill(self._pid, signal.SIGKILL)
            thread = threading.Thread(target=_is_buried, args=(self._pid, 0), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there can be no more threads
                _is_buried(self._pid, 0)


def _fork(work: Iterator[bytes]) -> tuple[int, int]:
    """Return the process id of a copy that makes *work*, and where to read from it.

    Raises:
        OSError: too many processes, or files.
    """
    reading, writing = os.pipe()
    original = os.getpid()
    with contextlib.suppress(PermissionError):  # then the copy waits more often
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    try:
        with warnings.catch_warnings():
            # Newer versions of Python warn of other threads: see above.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError:
        os.close(reading)
        raise
    else:
        if not pid:
            _work(work, writing, original)
    finally:
        os.close(writing)
    os.set_blocking(reading, False)
    return pid, reading


def _is_buried(pid: int, options: int) -> bool:
    """Return whether a child has ended and its status is taken; waits unless *options* say no."""
    try:
        return os.waitpid(pid, options)[0] == pid
    except ChildProcessError:  # somebody else did, as the kernel if nobody wants to know
        return True


def _work(work: Iterator[bytes], pipe: int, original: int) -> None:
    """Be the copy: write all items, then end without any clean-up, which is for the original.

    Does not return.
    """
    try:
        gc.disable()  # what it would find belongs to the original
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != original:
            return
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        # A connection that the original closes is open as long as somebody has it.
        for descriptor in [int(one.name) for one in Path("/proc/self/fd").iterdir()]:
            if descriptor > _ERRORS and descriptor != pipe:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        with os.fdopen(pipe, "wb") as out:
            for item in work:
                out.write(_LENGTH.pack(len(item)) + item)
                out.flush()
    except BrokenPipeError:
        pass  # the original is gone
    except Exception:  # noqa: BLE001  # the original does without, and somebody should know
        os.write(_ERRORS, traceback.format_exc().encode())
    finally:
        os._exit(0)
