"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: how they are started."""

from __future__ import annotations

from pathlib import Path

from support.cluster.keys import Keys
from support.cluster.plan import API_HOST, API_PORT, SERVICE_NETWORK
from support.cluster.programs import program

Words = tuple[str, ...]
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE_IS_MISSED = 120.0
"""Seconds in which the node controller notices that a node is gone or back, and some more."""
_ETCD, _ETCD_PEER = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
"""In the control plane's own network namespace."""


def commands(state: Path, keys: Keys) -> dict[str, Words]:
    """Return the programs in the order in which they start."""
    return {
        "etcd": _etcd(state),
        "kube-apiserver": _api_server(keys),
        "kube-controller-manager": _controllers(state, keys),
        "kube-scheduler": _scheduler(state),
    }


def _etcd(state: Path) -> Words:
    return (
        str(program("etcd")), "--name", "t", "--data-dir", str(state / "etcd"),
        "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD,
        "--listen-peer-urls", _ETCD_PEER, "--initial-advertise-peer-urls", _ETCD_PEER,
        "--initial-cluster", f"t={_ETCD_PEER}",
    )  # fmt: skip


def _api_server(keys: Keys) -> Words:
    return (
        str(program("kube-apiserver")), "--etcd-servers", _ETCD,
        "--bind-address", API_HOST, "--secure-port", str(API_PORT),
        "--advertise-address", API_HOST,
        "--tls-cert-file", keys.path("apiserver.crt"),
        "--tls-private-key-file", keys.path("apiserver.key"),
        "--client-ca-file", keys.path("ca.crt"),
        "--anonymous-auth=false", "--authorization-mode", "Node,RBAC",
        "--enable-admission-plugins", "NodeRestriction", "--allow-privileged",
        "--service-account-issuer", "https://kubernetes.default.svc",
        "--service-account-key-file", keys.path("sa.pub"),
        "--service-account-signing-key-file", keys.path("sa.key"),
        "--service-cluster-ip-range", SERVICE_NETWORK,
        "--kubelet-client-certificate", keys.path("kubelet-client.crt"),
        "--kubelet-client-key", keys.path("kubelet-client.key"),
        "--kubelet-certificate-authority", keys.path("ca.crt"),
        "--kubelet-preferred-address-types", "InternalIP",
        "--event-ttl", "1h", "--profiling=false",
    )  # fmt: skip


def _controllers(state: Path, keys: Keys) -> Words:
    return (
        str(program("kube-controller-manager")), *_client(state, "kube-controller-manager"),
        "--root-ca-file", keys.path("ca.crt"),
        "--service-account-private-key-file", keys.path("sa.key"),
        "--use-service-account-credentials",
        "--cluster-signing-cert-file", keys.path("ca.crt"),
        "--cluster-signing-key-file", keys.path("ca.key"),
    )  # fmt: skip


def _scheduler(state: Path) -> Words:
    return (str(program("kube-scheduler")), *_client(state, "kube-scheduler"))


def _client(state: Path, name: str) -> Words:
    return (
        "--kubeconfig", str(state / f"{name}.kubeconfig"), "--leader-elect=false",
        "--bind-address", "127.0.0.1", "--authentication-skip-lookup", "--profiling=false",
    )  # fmt: skip
