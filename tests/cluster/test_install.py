"""The chart as it runs: checks, dumps, upgrades, and nodes that are left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.sysdump.parts import read_archive
from support.cluster.cluster import Cluster
from support.cluster.install import install, values
from support.cluster.mesh import GATE_PORT, Mesh
from support.cluster.traffic import eventually

NODES = ("n1", "n2")
PLANTED = "pl4nted5ecret"


def penstock(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Penstock as a user of the cluster."""
    path = f"{cluster.kubectl_program.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli", *words, "--kubeconfig", str(cluster.kubeconfig)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def complaints(cluster: Cluster) -> list[Any]:
    """Return what `penstock check` finds that is not ok."""
    said = json.loads(penstock(cluster, "check", "-o", "json").stdout)
    return [one for one in said["findings"] if one["verdict"] != "ok"]


def test_a_cluster_that_works_passes_every_check(mesh: Mesh) -> None:
    assert eventually(lambda: not complaints(mesh.cluster)), complaints(mesh.cluster)


@pytest.mark.parametrize("node", NODES)
def test_a_node_that_works_passes_every_check(mesh: Mesh, node: str) -> None:
    pod = mesh.pod_on("agent", node)

    def found() -> list[str]:
        said = json.loads(mesh.run_in(pod, "check", "--node", "-o", "json"))
        return [one["id"] for one in said["findings"] if one["verdict"] != "ok"]

    assert eventually(lambda: not found()), found()


def test_a_dump_has_every_node_and_no_secret(mesh: Mesh, namespace: str, tmp_path: Path) -> None:
    cluster = mesh.cluster
    cluster.kubectl(
        "-n", namespace, "create", "secret", "generic", "planted", f"--from-literal=k={PLANTED}"
    )
    out = tmp_path / "dump.tar.gz"
    ran = penstock(cluster, "sysdump", "--file", str(out))
    assert ran.returncode == 0, ran.stderr
    parts = {one.name: one.content.decode() for one in read_archive(out.read_bytes())}
    for node in NODES:
        assert f"nodes/{node}/agent/status.json" in parts
        assert f"nodes/{node}/envoy/config_dump.json" in parts
    assert any(name.startswith("logs/penstock-controller") for name in parts)
    for secret in (PLANTED, "PRIVATE KEY", "eyJhbGci"):
        assert [name for name, content in parts.items() if secret in content] == []


@pytest.fixture
def left(mesh: Mesh) -> Generator[Mesh]:
    """Let the agents leave their nodes; afterwards they are back."""
    install(mesh.cluster, values(api_port=GATE_PORT, agent={"leave": True}))
    yield mesh
    install(mesh.cluster, values(api_port=GATE_PORT))


def test_nodes_that_were_left_have_nothing_of_ours(left: Mesh) -> None:
    for node in NODES:
        looked = subprocess.run(
            left.cluster.in_node(
                node, "sh", "-c",
                "find /sys/fs/bpf/penstock -type f; ls /opt/cni/bin; cat /etc/cni/net.d/*;"
                " ip -4 -oneline address show",
            ),
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        assert "cni-veth" in looked
        assert "penstock" not in looked
        own = ("172.31.0.11/", "172.31.0.12/")
        addresses = [line for line in looked.splitlines() if "inet 172.31." in line]
        assert [line for line in addresses if not any(one in line for one in own)] == []
