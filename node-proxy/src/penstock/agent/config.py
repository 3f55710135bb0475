"""What the agent is told at its start; nothing else is read from the environment."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.meta.paths import RunPaths


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One agent on one node."""

    paths: RunPaths
    node: str
    netns: Path | None = None
    """Network namespace of the node, in which Envoy runs; None is the present one."""
    cgroup_root: Path | None = None
    """Folder with the cgroups `envoy` and `pods`; None with `datapath` finds cgroup v2 itself."""
    datapath: bool = True
    """False serves gateways only: no pod is captured, no L3/L4 verdict enforced."""
    drain: float = 0.0
    """Seconds for connections to end when Envoy stops; 0 leaves Envoy to the next agent."""
    concurrency: int | None = None
    """Envoy's worker threads; None is one for each processor."""
