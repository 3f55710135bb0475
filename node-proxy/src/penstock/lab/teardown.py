"""Take a run folder into use, and remove everything that an instance made, also after kill -9."""

from __future__ import annotations

import contextlib
import os
import shutil

from penstock.lab import cgroups, syscalls
from penstock.lab.state import NoLabError, read_state
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

_MARK = ".penstock-run"
_END_SECONDS = 45.0


class FolderInUseError(PenstockError):
    """The run folder belongs to somebody else."""


def check_free(paths: RunPaths) -> None:
    """Refuse a run folder that is not to be touched.

    Raises:
        FolderInUseError: a lab runs there, or the folder holds files that are not Penstock's.
    """
    if _lab_alive(paths):
        raise FolderInUseError(
            f"a lab already runs in {paths.root}; end it with `penstock down --run-dir "
            f"{paths.root}`, or use another --run-dir"
        )
    root = paths.root
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise FolderInUseError(f"{root} holds other files; use an empty folder with --run-dir")


def claim(paths: RunPaths) -> None:
    """Make the run folder ready for a new lab; remains of a dead one are removed.

    Raises:
        FolderInUseError: see `check_free`.
    """
    check_free(paths)
    root = paths.root
    teardown(paths)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)
    (root / _MARK).touch()
    paths.state.mkdir(mode=0o700, exist_ok=True)


def teardown(paths: RunPaths) -> None:
    """Remove processes, mounts, network namespaces, cgroups and files of an instance.

    Everything is found from the run folder's path and the cgroup named after it. It may be called
    any number of times, and by the lab itself at its end.

    Raises:
        CgroupError: a process does not end.
    """
    _end_lab(paths)
    with contextlib.suppress(cgroups.CgroupError):
        cgroups.mount_point()
        cgroups.remove(cgroups.instance_root(paths.root))
    for point in syscalls.mounts_below(str(paths.root)):
        with contextlib.suppress(OSError):
            syscalls.umount(point)
    if (paths.root / _MARK).exists() and not syscalls.mounts_below(str(paths.root)):
        shutil.rmtree(paths.root, ignore_errors=True)


def _lab_alive(paths: RunPaths) -> bool:
    try:
        process = read_state(paths).process
    except NoLabError:
        return False
    return process.alive and process.pid != os.getpid()


def _end_lab(paths: RunPaths) -> None:
    """Let a running lab end itself; kill it if it does not."""
    if not _lab_alive(paths):
        return
    read_state(paths).process.end(_END_SECONDS)
