"""What the agent is told at its start; nothing else is read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import msgspec

from penstock.ads.dial import Controller
from penstock.meta.names import NamespacedName
from penstock.meta.paths import RunPaths
from penstock.sources.kubernetes.access import Access

HOST_BPFFS = Path("/sys/fs/bpf/penstock")
PENSTOCK_NAMESPACE = "penstock-system"


class CniFolders(msgspec.Struct, frozen=True, kw_only=True):
    """Where the container runtime finds plugins, as this process sees it."""

    programs: Path
    configuration: Path


class KubernetesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is different where Kubernetes runs the pods, Envoy's too."""

    access: Access
    """The API server."""
    environment: Mapping[str, str]
    """What a credential plugin of `access` is started with."""
    ca_file: Path | None = None
    """Certificates by which controllers are known; None follows the ConfigMap penstock-ca."""
    token_file: Path = Path("/var/run/secrets/penstock/token")
    """Token of this pod for controllers."""
    service: NamespacedName = NamespacedName(PENSTOCK_NAMESPACE, "penstock-controller")
    """Service of the controllers, whose endpoints are looked up."""
    controllers: tuple[Controller, ...] = ()
    """Controllers that are known without that."""
    local_controller: str = ""
    """Socket of a controller on this machine, as "unix:/run/x.sock", instead of all that."""
    unpoliced: frozenset[str] = frozenset({PENSTOCK_NAMESPACE})
    """Namespaces whose pods are neither judged nor redirected."""
    kubepods: Path | None = None
    """Cgroup of all pods; None finds it."""
    bpffs: Path = HOST_BPFFS
    """Folder in the node's bpffs, which outlives our pod."""
    netns_folder: Path = Path("/run/netns")
    """Where the container runtime keeps network namespaces, the same path in Envoy's pod."""
    host_netns: Path = Path("/proc/1/ns/net")
    """The node's network namespace as Envoy's process finds it: it has the node's processes."""
    node_addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    """The node's own, which say on which link Gateways' addresses belong."""
    cni: CniFolders | None = None
    """Where to keep our CNI plugin installed."""


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
    kubernetes: KubernetesConfig | None = None
    """None where the lab, or somebody else, starts pods, and the agent Envoy."""
    health: tuple[str, int] | None = None
    """Address and port of /healthz and /readyz for who cannot use a unix socket."""
