"""What the agent is told at its start; nothing else is read from the environment."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths


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
    log_level: str = "info"


def parse(argv: Sequence[str]) -> Config:
    """Return the configuration that a command line means; exits on a wrong one."""
    parser = argparse.ArgumentParser(prog="penstock agent", description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=DEFAULT_RUN_DIR, help="run folder, 0700")
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument("--netns", type=Path, help="network namespace in which Envoy runs")
    parser.add_argument("--cgroup-root", type=Path, help="folder with the cgroups envoy and pods")
    parser.add_argument("--no-datapath", action="store_true", help="gateways only, no eBPF")
    parser.add_argument(
        "--drain", type=float, default=0.0, metavar="SECONDS",
        help="stop Envoy too when the agent is stopped, after its connections had this long",
    )  # fmt: skip
    parser.add_argument("--concurrency", type=int, help="Envoy's worker threads")
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    options = parser.parse_args(argv)
    return Config(
        paths=RunPaths(options.run_dir.absolute()),
        node=options.node,
        netns=options.netns.absolute() if options.netns else None,
        cgroup_root=options.cgroup_root,
        datapath=not options.no_datapath,
        drain=options.drain,
        concurrency=options.concurrency,
        log_level=options.log_level,
    )
