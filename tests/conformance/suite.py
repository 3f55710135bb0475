"""The suite's own program: its options, and one run of it beside a cluster."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from support.cluster import programs
from support.cluster.cluster import Cluster
from support.kube import ROOT

VERSION = "1.6.3"
"""Of the suite, and of the CRDs with which it writes a report."""
GATEWAY_CLASS = MESH = "penstock"
"""The GatewayClass and the XMesh of the chart; what is run is what their statuses list."""
USABLE, UNUSABLE = "172.31.0.190", "192.0.2.1"
"""An address of the pool for Gateways, and one that is not in it."""
_MINUTES = 60


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is run."""

    profiles: tuple[str, ...]
    report: Path
    """Where the suite writes its report."""
    only: tuple[str, ...] = ()
    """Names of tests; none of them means all."""
    keep: bool = False
    """Leave the suite's base objects in the cluster, so that the next run starts sooner."""
    crds_mismatch: bool = False
    """The CRDs are of another version than the suite: its report cannot be handed in."""


def output(cluster: Cluster, options: Options) -> Iterator[str]:
    """Run the suite where Gateways are reachable, and yield its lines.

    Raises:
        MissingProgramError: the suite is not built.
        ClusterError: the cluster has no Penstock that is ready.
    """
    for one in (f"gatewayclass/{GATEWAY_CLASS}", f"xmesh/{MESH}"):
        cluster.kubectl("wait", "--for=condition=Accepted", "--timeout=60s", one)
    kubeconfig = cluster.state / "suite.kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(cluster.keys.kubeconfig("admin"))
    words = cluster.in_control_netns(*_words(options))
    with subprocess.Popen(
        words, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, cwd=cluster.state,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield from process.stdout


def _words(options: Options) -> tuple[str, ...]:
    return (
        str(programs.program("conformance.test")),
        "-test.v",
        f"-test.timeout={_MINUTES}m",
        f"-test.run={_pattern(options.only)}",
        f"--gateway-class={GATEWAY_CLASS}",
        f"--conformance-profiles={','.join(options.profiles)}",
        f"--usable-address={USABLE}",
        f"--unusable-address={UNUSABLE}",
        f"--cleanup-base-resources={str(not options.keep).lower()}",
        *(("--allow-crds-mismatch",) if options.crds_mismatch else ()),
        *_mesh(options),
        f"--report-output={options.report}",
        *implementation(),
    )


def _mesh(options: Options) -> tuple[str, ...]:
    of_mesh = any(one.startswith("MESH-") for one in options.profiles)
    return (f"--mesh-name={MESH}",) if of_mesh else ()


def _pattern(only: Sequence[str]) -> str:
    return "^TestConformance$" + (f"/^({'|'.join(only)})$" if only else "")


def implementation() -> tuple[str, ...]:
    """Return what the report says about the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    return (
        f"--organization={name}",
        f"--project={name}",
        f"--url=https://{name}.dev",
        f"--version=v{version}",
        f"--contact=@{name}",
    )
