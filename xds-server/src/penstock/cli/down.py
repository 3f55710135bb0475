"""`penstock down`: end an instance, and remove what one that was killed left behind."""

from __future__ import annotations

import contextlib

import msgspec

from penstock.cli.output import say
from penstock.cli.processes import read_processes
from penstock.lab import cgroups, teardown
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId

_UP_SECONDS, _PART_SECONDS = 20.0, 3.0


class _EnvoyRecord(msgspec.Struct, frozen=True):
    """As the agent's launcher writes it: see `penstock.agent.launch`."""

    pid: int
    start_ticks: int


def down(paths: RunPaths) -> int:
    """End the instance and remove its traces; return the exit status 0."""
    if not _traces(paths):
        say(f"nothing runs in {paths.root} and nothing is left there")
        return 0
    processes = read_processes(paths)
    if processes is not None:
        processes.up.end(_UP_SECONDS)
    remove_everything(paths)
    say(f"removed everything of {paths.root}")
    return 0


def remove_everything(paths: RunPaths) -> None:
    """Kill the parts of an instance whose `up` is gone, and remove all that they made.

    Raises:
        PenstockError: a process does not end.
    """
    processes = read_processes(paths)
    parts = (processes.controller, processes.agent) if processes is not None else ()
    for process in (*parts, _envoy(paths)):
        if process is not None:
            process.end(_PART_SECONDS)
    teardown.teardown(paths)


def _envoy(paths: RunPaths) -> ProcessId | None:
    """Return the Envoy that an agent started, which survives it."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        record = msgspec.json.decode((paths.state / "envoy.json").read_bytes(), type=_EnvoyRecord)
        return ProcessId(record.pid, record.start_ticks)
    return None


def _traces(paths: RunPaths) -> bool:
    if paths.root.exists() and any(paths.root.iterdir()):
        return True
    with contextlib.suppress(cgroups.CgroupError):
        return cgroups.instance_root(paths.root).exists()
    return False
