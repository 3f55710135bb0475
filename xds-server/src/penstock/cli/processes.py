"""Which processes an instance consists of: `<run>/state/processes.json`, written by `up`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from penstock.meta.paths import RunPaths
from penstock.runtime.files import replace_file
from penstock.runtime.processes import ProcessId


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that `up` started, and itself."""

    up: ProcessId
    controller: ProcessId | None = None
    agent: ProcessId | None = None
    mode: str = "full"
    """full, or gateways: see `penstock.cli.up`."""
    folder: str = ""
    """The user's folder."""


def read_processes(paths: RunPaths) -> Processes | None:
    """Return what `up` wrote last, also if it was killed; None if there is nothing."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(_file(paths).read_bytes(), type=Processes)
    return None


def write_processes(paths: RunPaths, processes: Processes) -> None:
    """Replace the file."""
    paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(_file(paths), msgspec.json.encode(processes))


def _file(paths: RunPaths) -> Path:
    return paths.state / "processes.json"
