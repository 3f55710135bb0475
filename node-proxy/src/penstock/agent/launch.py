"""Become another program inside a network namespace and a cgroup.

Run as a script by path with `python -I -S`, so that it starts in milliseconds and needs no
package. The agent has threads (grpc), and between fork and exec of such a process no Python code
may run; here there is one thread, and the process id stays the same.

The lock is an open file that the program inherits: as long as it lives nobody else can be
launched with the same record, even if whoever launched it died before it knew the process id.

usage: launch.py RECORD FOLDER NETNS|- CGROUP|- NOFILE PROGRAM ARGUMENTS...
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import sys
import time
from pathlib import Path

CLONE_NEWNET = 0x40000000
LOCKED = 75
"""Exit status (EX_TEMPFAIL): another process lives under this record."""


def enter_netns(path: str) -> None:
    """Join the network namespace at *path*; `os.setns` came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    os.close(fd)


def allow_files(wanted: int) -> None:
    """Raise the limit of open files to *wanted*, or to what the hard limit lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lock(path: str) -> None:
    """Hold *path* for the life of this process; exit with `LOCKED` if somebody else does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(LOCKED)
    os.set_inheritable(fd, True)  # noqa: FBT003 - the function's own flag


def write_record(path: str) -> None:
    """Write who this process is, in the form of `envoy_process.ProcessRecord`."""
    stat = Path("/proc/self/stat").read_text()
    record = {
        "pid": os.getpid(),
        "start_ticks": int(stat.rpartition(")")[2].split()[19]),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "started": time.time(),
    }
    fresh = Path(path + ".new")
    fresh.write_text(json.dumps(record))
    fresh.replace(path)


def main(argv: list[str]) -> None:
    """Enter the cgroup first: the programs there must see every socket that is made later."""
    record, folder, netns, cgroup, files, *command = argv
    os.chdir(folder)
    lock(record + ".lock")
    write_record(record)
    if cgroup != "-":
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    if netns != "-":
        enter_netns(netns)
    allow_files(int(files))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
