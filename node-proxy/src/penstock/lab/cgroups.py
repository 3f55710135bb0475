"""Control groups of one instance: `penstock-<instance>` with `system`, `envoy` and `pods/<uid>`.

Only cgroup v2 is used, mounted anywhere (on hybrid machines at /sys/fs/cgroup/unified).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

from penstock.bpf.capabilities import NO_CGROUP2, cgroup2_mount
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

_LOOK_MILLISECONDS = 100
"""Before Linux 5.14 a process may fork while all are killed: then they are killed again."""
_END_SECONDS = 10.0
"""How long killed processes may take to end."""


class CgroupError(PenstockError):
    """There is no usable cgroup v2, or a process in it cannot be killed."""


def mount_point() -> Path:
    """Return where cgroup v2 is mounted.

    Raises:
        CgroupError: nowhere.
    """
    mount = cgroup2_mount()
    if mount is None:
        raise CgroupError(NO_CGROUP2)
    return mount


def instance_root(run_folder: Path) -> Path:
    """Return the cgroup of the instance in *run_folder*, which may not exist yet.

    Raises:
        CgroupError: no cgroup v2 is mounted.
    """
    return mount_point() / RunPaths(run_folder).cgroup_name


def pod_cgroup(root: Path, uid: str) -> Path:
    """Return the cgroup of a pod; its containers have one each below it."""
    return root / "pods" / uid


def kill(cgroup: Path) -> None:
    """Send SIGKILL to every process in *cgroup* and below it; none can fork away."""
    try:
        (cgroup / "cgroup.kill").write_text("1", encoding="ascii")
    except FileNotFoundError:
        send_signal(cgroup, signal.SIGKILL)  # cgroup.kill came with Linux 5.14


def send_signal(cgroup: Path, number: int) -> None:
    """Send a signal to every process that is in *cgroup* or below it now."""
    for pid in processes(cgroup):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def move(pid: int, cgroup: Path) -> None:
    """Move a process into *cgroup*; one that has ended is ignored.

    Raises:
        OSError: the kernel refused.
    """
    with contextlib.suppress(ProcessLookupError):
        (cgroup / "cgroup.procs").write_text(str(pid), encoding="ascii")


def processes(cgroup: Path) -> list[int]:
    """Return the processes in *cgroup* and below it."""
    found: list[int] = []
    for file in sorted(cgroup.rglob("cgroup.procs")):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text(encoding="ascii").split())
    return found


def remove(cgroup: Path) -> None:
    """Kill what runs in *cgroup* and take it away with everything below it; it may be gone already.

    Raises:
        CgroupError: a process does not end.
    """
    deadline = time.monotonic() + _END_SECONDS
    while True:
        kill(cgroup)
        if _remove_empty(cgroup):
            return
        if time.monotonic() > deadline:
            raise CgroupError(f"{cgroup}: processes {processes(cgroup)} do not end after SIGKILL")
        _wait_for_end(cgroup)


def _wait_for_end(cgroup: Path) -> None:
    """Return when the last process in *cgroup* and below it has ended, or it is time to look."""
    with contextlib.suppress(FileNotFoundError), (cgroup / "cgroup.events").open("rb") as events:
        events.read()  # what is told from now on is what changes from now on
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        poll.poll(_LOOK_MILLISECONDS)


def _remove_empty(cgroup: Path) -> bool:
    """Remove the folders below and at *cgroup*; return False while a process is in one."""
    try:
        for folder in sorted((p for p in cgroup.rglob("*") if p.is_dir()), reverse=True):
            folder.rmdir()
        cgroup.rmdir()
    except FileNotFoundError:
        return not cgroup.exists()
    except OSError:
        return False
    return True
