"""Where the parts of one running instance meet: sockets and folders below one run folder (0700)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

DEFAULT_RUN_DIR = Path("/run/penstock")

NODE_NETNS, HOST_NETNS = "node", "host"
"""Names in the folder of network namespaces that are no pod's uid: the node's, the machine's."""


class RunPaths(msgspec.Struct, frozen=True):
    """Every path of an instance; relative network namespace paths are relative to `root`.

    Envoy runs with `root` as its working folder, so that `netns/<uid>` in a listener is the same
    text on every machine and for every instance.
    """

    root: Path = DEFAULT_RUN_DIR

    @property
    def controller_ads(self) -> Path:
        """Socket of the controller's ADS for agents on this machine (lab)."""
        return self.root / "controller-ads.sock"

    @property
    def controller_api(self) -> Path:
        """Socket of the controller's HTTP API for the command line."""
        return self.root / "controller.sock"

    @property
    def node_ads(self) -> Path:
        """Socket where Envoy finds the agent: ADS and access log service."""
        return self.root / "node-ads.sock"

    @property
    def agent_api(self) -> Path:
        """Socket of the agent's HTTP API for the lab, the CNI plugin and the command line."""
        return self.root / "agent.sock"

    @property
    def envoy_admin(self) -> Path:
        """Socket of Envoy's admin interface (0600)."""
        return self.root / "envoy-admin.sock"

    @property
    def bpffs(self) -> Path:
        """Mount point of the instance's own bpffs."""
        return self.root / "bpf"

    @property
    def netns(self) -> Path:
        """Folder of the local pods' network namespaces, named by uid: mounts, or links to them."""
        return self.root / "netns"

    @property
    def objects(self) -> Path:
        """Folder of the objects that the lab makes: Pods, EndpointSlices, Nodes."""
        return self.root / "objects"

    @property
    def state(self) -> Path:
        """Folder of what survives a restart: last-good snapshot, pods; no keys."""
        return self.root / "state"

    @property
    def envoy_bootstrap(self) -> Path:
        """Bootstrap of Envoy, written by the agent."""
        return self.state / "envoy-bootstrap.json"

    @property
    def envoy_start(self) -> Path:
        """Shell lines that start Envoy in a pod of its own, written by the agent."""
        return self.state / "envoy-start.sh"

    @property
    def envoy_asking(self) -> Path:
        """Uid of the pod whose Envoy waits for its eBPF programs, written by `envoy_start`."""
        return self.state / "envoy-asking"

    @property
    def envoy_admitted(self) -> Path:
        """Uid of the pod whose Envoy has its eBPF programs, written by the agent."""
        return self.state / "envoy-admitted"

    @property
    def keys(self) -> Path:
        """Folder (0700) of the node's own key; the run folder is in memory."""
        return self.root / "keys"

    @property
    def authority(self) -> Path:
        """File of the certificates by which this node knows controllers."""
        return self.root / "ca.crt"

    @property
    def logs(self) -> Path:
        """Folder of log files: controller, agent, envoy and one for each pod."""
        return self.root / "logs"

    @property
    def cgroup_name(self) -> str:
        """Name of the instance's cgroup, which tells instances on one machine apart."""
        return f"penstock-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"


def netns_of(uid: str) -> str:
    """Return the network namespace path of a pod, or of NODE_NETNS, as Envoy resources name it."""
    return f"netns/{uid}"
