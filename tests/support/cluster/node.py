"""One node, seen from outside: its processes, its settings, its cgroups.

A node is a tree of processes in namespaces of its own (network, mounts, processes, host name,
cgroups). The first process is `node_init`; the end of the `unshare` that starts it ends every
container, mount and pinned network namespace with it. What stays are folders of cgroups.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from support.cluster.errors import ClusterError
from support.cluster.network import in_netns
from support.cluster.node_settings import NodeSettings
from support.cluster.plan import NodePlan

CGROUPS = Path("/sys/fs/cgroup")
_REMOVE_SECONDS = 20.0


def command(settings: NodeSettings) -> tuple[str, ...]:
    """Return what starts a node, and write its settings."""
    folder = Path(settings.folder)
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "settings.json"
    file.write_bytes(msgspec.json.encode(settings))
    for cgroup in cgroup_folders(settings.node):
        cgroup.mkdir(exist_ok=True)
    return in_netns(
        settings.node.netns,
        "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc",
        "--propagation", "private",
        sys.executable, "-m", "support.cluster.node_init", str(file),
    )  # fmt: skip


def environment() -> dict[str, str]:
    """Return the environment in which Python finds what this process has found."""
    paths = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_dir())
    return {**os.environ, "PYTHONPATH": paths}


def hierarchies() -> list[Path]:
    """Return the roots of all hierarchies of cgroups: one where cgroup v2 is alone."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted(path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())


def cgroup_folders(node: NodePlan) -> list[Path]:
    return [root / node.cgroup for root in hierarchies()]


def remove_cgroups(node: NodePlan) -> None:
    """Remove the folders of a node that has ended; the kernel takes a moment to let go.

    Raises:
        ClusterError: a process is still in one of them.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    for top in cgroup_folders(node):
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if top.exists():
                if time.monotonic() > deadline:
                    raise ClusterError(f"{top} cannot be removed: see its cgroup.procs")
                time.sleep(0.05)
