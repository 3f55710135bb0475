"""How much of the machine this process may use: processors and memory.

Source: Linux Documentation/admin-guide/cgroup-v2.rst: cpu.max, memory.max and memory.current. The
own cgroup is the root of the file system in a container; elsewhere these files are not there.
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def processors(cgroup: Path = _ROOT) -> float:
    """Return the number of processors, or what a limit of *cgroup* leaves of them."""
    allowed = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else min(allowed, int(quota) / int(period))


def memory_left(cgroup: Path = _ROOT) -> float:
    """Return the bytes until the limit of *cgroup*, infinite if it has none."""
    try:
        most = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        return float("inf") if most == "max" else float(int(most) - used)
    except (OSError, ValueError):
        return float("inf")


def resident() -> int:
    """Return the bytes of this process that are in memory. Source: proc(5), statm."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
