"""What a node needs to know, and the settings that its programs get from it. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from support.cluster.plan import API_HOST, DNS_SERVICE, REGISTRY_PORT, NodePlan

PAUSE_IMAGE = "penstock.dev/pause:1"
CNI_CONFIGURATION, CNI_PROGRAMS = "/etc/cni/net.d", "/opt/cni/bin"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
REGISTRY_HOSTS = "/etc/containerd/certs.d"


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs between nodes, as the starter writes and `node_init` reads it."""

    node: NodePlan
    folder: str
    """Logs and settings; the same path inside and outside."""
    keys: str
    kubeconfig: str
    containerd: str
    """Programs, as paths."""
    kubelet: str
    cni_plugin: str


def kubelet_configuration(settings: NodeSettings, *, cgroup_v1: bool) -> str:
    """Return the kubelet's file; JSON is YAML, too."""
    name = settings.node.name
    eviction = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")
    found: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{settings.keys}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{settings.keys}/{name}.crt",
        "tlsPrivateKeyFile": f"{settings.keys}/{name}.key",
        "address": settings.node.address,
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "evictionHard": dict.fromkeys(eviction, "0%"),
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "nodeLeaseDurationSeconds": 20,
        "maxPods": 200,
    }
    if cgroup_v1:
        found["failCgroupV1"] = False
    return json.dumps(found, indent=1)


def containerd_configuration() -> str:
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc dies of the -998 of a sandbox.
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "{REGISTRY_HOSTS}"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI_PROGRAMS}"]
conf_dir = "{CNI_CONFIGURATION}"
use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def registry_hosts() -> str:
    """Return where images of any name come from: the cluster's own registry, nowhere else."""
    server = f"http://{API_HOST}:{REGISTRY_PORT}"
    return f"""server = "{server}"
[host."{server}"]
capabilities = ["pull", "resolve"]
"""


def cni_configuration(node: NodePlan) -> str:
    plugin = {
        "type": "cni-veth",
        "subnet": node.pod_network,
        "source": node.address,
        "state": "/run/cni-veth",
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}, indent=1)
