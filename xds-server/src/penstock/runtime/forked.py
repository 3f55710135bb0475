"""Work in a copy of this process: another processor, and everything that is in memory here.

The copy computes and writes into a pipe. It must not touch what belongs to other threads of the
original, which it does not have: no event loop, no gRPC, no log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import structlog

_LENGTH = struct.Struct("<I")
_PIPE_SIZE = 1 << 20
"""Bytes that wait in the pipe before the copy does."""
_ERRORS = 2
"""Standard error, the last file descriptor that every process has."""

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
        reading, writing = os.pipe()
        with contextlib.suppress(PermissionError):  # then the copy waits more often
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        try:
            with warnings.catch_warnings():
                # Newer versions of Python warn of other threads: see above.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._pid = os.fork()
        except OSError as error:
            os.close(reading)
            os.close(writing)
            _log.warning("no second process: this one does all the work", error=str(error))
            return
        if not self._pid:
            _work(work, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self._pipe = reading

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
        os.kill(self._pid, signal.SIGKILL)
        threading.Thread(target=_bury, args=(self._pid,), daemon=True).start()


def _bury(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # somebody else did
        os.waitpid(pid, 0)


def _work(work: Iterator[bytes], pipe: int) -> NoReturn:
    """Be the copy: write all items, then end without any clean-up, which is for the original."""
    try:
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
