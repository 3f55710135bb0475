"""The programs that `make kube-tools` leaves, and whether they are there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.cluster.errors import ClusterError
from support.kube import MissingProgramError, etcd_program, kubernetes_program, tool
from support.namespaces import root_is_mount

_KUBERNETES = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl",
)  # fmt: skip
_CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")
_SYSTEM = {"runc": "runc", "unshare": "util-linux", "setpriv": "util-linux", "mount": "mount"}


def program(name: str) -> Path:
    """Return a program by its name.

    Raises:
        MissingProgramError: it is not built.
    """
    if name == "etcd":
        return etcd_program()
    if name in _KUBERNETES:
        return kubernetes_program(name)
    if name in _CONTAINERD:
        return tool("containerd", "github.com/containerd/containerd/v2", name)
    if name in ("pause", "cni-veth"):
        return own_tool(name)
    folder, module = _MODULES[name]
    return tool(folder, module, name)


_MODULES = {
    "coredns": ("coredns", "github.com/coredns/coredns"),
    "helm": ("helm", "helm.sh/helm/v4"),
    "echo-basic": ("conformance", "sigs.k8s.io/gateway-api/conformance"),
    "conformance.test": ("conformance", "sigs.k8s.io/gateway-api/conformance"),
    "echo-server": ("echo", "istio.io/istio"),
    "echo-client": ("echo", "istio.io/istio"),
}


def own_tool(name: str) -> Path:
    """Return a program whose source is in deploy/kube-tools/cluster.

    Raises:
        MissingProgramError: it is not built.
    """
    path = kubernetes_program("kubectl").parents[1] / "cluster" / name
    if not path.exists():
        raise MissingProgramError(f"{name} is not built: make kube-tools TOOLS={name}")
    return path


def check_machine(user: int | None = None, mounts: str | None = None) -> None:
    """Return if this machine can have a cluster, whatever is still to be built or installed.

    Args:
        user: who asks; None is who runs this.
        mounts: see `root_is_mount`.

    Raises:
        ClusterError: it cannot; the text says why.
    """
    if (os.geteuid() if user is None else user) != 0:
        raise ClusterError("root is needed: sudo make cluster")
    if not root_is_mount(mounts):
        raise ClusterError(
            'runc needs a "/" that is a mount, which it is not in a chroot; '
            "use the machine itself, a virtual machine, or a privileged container"
        )


def check() -> None:
    """Return if all is there that a cluster needs.

    Raises:
        ClusterError: something is missing; the text names all of it.
    """
    missing: list[str] = []
    for name in ("etcd", *_KUBERNETES, *_CONTAINERD, "coredns", "pause", "cni-veth"):
        try:
            program(name)
        except MissingProgramError:
            missing.append(name)
    if missing:
        raise ClusterError(
            f"not built: {', '.join(missing)}; run `make kube-tools TOOLS=cluster` "
            "(about 15 minutes, once)"
        )
    packages = sorted({package for name, package in _SYSTEM.items() if shutil.which(name) is None})
    if packages:
        raise ClusterError(f"programs are missing: apt-get install {' '.join(packages)}")
