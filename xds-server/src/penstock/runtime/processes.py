"""Processes of this machine, told from later ones that got their number."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

import msgspec


class ProcessId(msgspec.Struct, frozen=True):
    """A process; the start time tells whether the number was given to another one since."""

    pid: int
    started: int
    """Clock ticks since boot; 0 if it was gone already."""

    @property
    def alive(self) -> bool:
        """Return whether the process still runs."""
        return start_ticks(self.pid) == self.started

    def wait(self, seconds: float) -> bool:
        """Return whether the process ends within *seconds*; it need not be a child."""
        try:
            found = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive:  # else the number, and so the descriptor, may be another one's
                poll = select.poll()
                poll.register(found, select.POLLIN)
                poll.poll(seconds * 1000)
        finally:
            os.close(found)
        return not self.alive

    def end(self, seconds: float) -> None:
        """Send SIGTERM, after *seconds* SIGKILL; nothing if it is gone or is this process."""
        if self.pid == os.getpid():
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, number)
            if self.wait(seconds):
                return


def start_ticks(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None if there is none.

    A process that ended and was not waited for yet counts as none. Source: proc(5), field 22 of
    stat.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def identify(pid: int) -> ProcessId:
    """Return a process with its start time."""
    return ProcessId(pid, start_ticks(pid) or 0)


def process_of(pid: int) -> ProcessId | None:
    """Return a process by its number; None for 0."""
    return identify(pid) if pid else None


def own_process() -> ProcessId:
    """Return this process."""
    return identify(os.getpid())
