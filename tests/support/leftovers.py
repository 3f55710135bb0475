"""Processes of a run of the tests that was killed: the next run ends them.

A run marks its environment, which what it starts inherits, also what outlives its parent on
purpose, as Envoy does an agent. What runs beside us has a mark whose process still lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from penstock.runtime.processes import ProcessId, own_process

MARK = "PENSTOCK_TESTS"
"""In the environment: number and start of the process that runs the tests."""


def begin_run() -> None:
    """Mark what this process starts, and end what a killed run has left."""
    for pid in left_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    own = own_process()
    os.environ.setdefault(MARK, f"{own.pid}:{own.started}")


def left_processes() -> Iterator[int]:
    """Yield the processes whose run is over."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (run := _run_of(entry)) is not None and not run.alive:
            yield int(entry.name)


def _run_of(process: Path) -> ProcessId | None:
    """Return the run that started a process; None if it was none, or is another user's."""
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for entry in environment:
        name, _, value = entry.partition(b"=")
        if name == MARK.encode():
            pid, _, started = value.partition(b":")
            return ProcessId(int(pid), int(started))
    return None
