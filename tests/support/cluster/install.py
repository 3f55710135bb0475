"""Penstock on a test cluster, installed as a user does it: the CRDs of Gateway API, then helm."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.cluster.cluster import Cluster
from support.cluster.errors import ClusterError
from support.cluster.plan import API_HOST, API_PORT
from support.cluster.programs import program
from support.kube import ROOT, tool

NAMESPACE = "penstock-system"
CHART = ROOT / "deploy" / "helm" / "penstock"
POOL = "172.31.0.128/26"
"""Addresses of the nodes' link that nothing else uses."""
_TIMEOUT = "120s"


def gateway_api_crds(version: str = "1.7.0", channel: str = "experimental") -> list[Path]:
    """Return the files of a release of Gateway API.

    Raises:
        MissingProgramError: `make kube-tools` has not fetched them.
    """
    newest = tool("gateway-api", "sigs.k8s.io/gateway-api", channel)
    folder = newest.parents[1] / f"gateway-api-v{version}" / channel
    return sorted(folder.glob("gateway*.yaml"))


def install_crds(cluster: Cluster, version: str = "1.7.0", channel: str = "experimental") -> None:
    """Install Gateway API and wait until it is served."""
    files = gateway_api_crds(version, channel)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", *_words(files))
    definitions = [file for file in files if "_vap_" not in file.name]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *_words(definitions))


def _words(files: Iterable[Path]) -> list[str]:
    return [word for file in files for word in ("-f", str(file))]


def values(api_host: str = API_HOST, api_port: int = API_PORT, **more: Any) -> dict[str, Any]:
    """Return the values of the chart for a test cluster; *more* replaces some."""
    return {
        "k8sServiceHost": api_host,
        "k8sServicePort": str(api_port),
        "gatewayAddresses": {"mode": "pool", "pool": [POOL]},
        **more,
    }


def helm(cluster: Cluster, *words: str) -> str:
    """Return what helm says.

    Raises:
        ClusterError: it fails.
    """
    done = subprocess.run(
        [str(program("helm")), "--kubeconfig", str(cluster.kubeconfig), *words],
        env={**os.environ, "HELM_CACHE_HOME": str(cluster.state / "helm")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ClusterError(f"helm {words[0]}: {done.stderr.strip()}{_state(cluster)}")
    return done.stdout


def install(cluster: Cluster, chosen: dict[str, Any] | None = None) -> None:
    """Install Penstock, or upgrade it, and return when all of it is ready on every node."""
    file = cluster.state / "values.json"
    file.write_text(json.dumps(chosen if chosen is not None else values()))
    helm(
        cluster, "upgrade", "--install", "penstock", str(CHART), "--namespace", NAMESPACE,
        "--create-namespace", "--values", str(file), "--wait", "--timeout", _TIMEOUT,
    )  # fmt: skip
    for what in ("deployment/penstock-controller", "daemonset/penstock-agent"):
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", what, f"--timeout={_TIMEOUT}")


def _state(cluster: Cluster) -> str:
    """Return what a reader of a failure wants to see: pods, events, the last words of ours."""
    seen = [
        cluster.kubectl("get", "pods", "-A", "-o", "wide", check=False),
        cluster.kubectl("-n", NAMESPACE, "get", "events", check=False),
    ]
    for part in ("controller", "agent", "envoy"):
        label = f"app.kubernetes.io/name=penstock-{part}"
        words = ("-n", NAMESPACE, "logs", "-l", label, "--tail=15", "--prefix")
        seen.append(cluster.kubectl(*words, check=False))
    return "\n" + "\n".join(seen)
