"""How many processors this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def processors(limit: Path = _ROOT / "cpu.max") -> float:
    """Return the number of processors, or what a limit of the container leaves of them.

    Args:
        limit: of the own cgroup, which is the root in a container. Source: Linux
            Documentation/admin-guide/cgroup-v2.rst, cpu.max.
    """
    allowed = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = limit.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else min(allowed, int(quota) / int(period))
