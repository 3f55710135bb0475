"""What a test cluster is made of: names, addresses, folders. Several can run side by side."""

from __future__ import annotations

from pathlib import Path

import msgspec

API_HOST, API_PORT = "172.31.0.1", 6443
"""The control plane's address on the bridge; nodes and pods reach it."""
REGISTRY_PORT = 5000
LINK_NETWORK = "172.31.0.0/24"
"""The nodes' network. 172.31.0.128/26 stays free, for Gateways."""
SERVICE_NETWORK, API_SERVICE, DNS_SERVICE = "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
DEFAULT_NAME = "pk"

STATES = Path("/dev/shm")
_STATE_PREFIX = "penstock-cluster-"


class NodePlan(msgspec.Struct, frozen=True):
    """One node."""

    cluster: str
    number: int
    """From 1."""

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def netns(self) -> str:
        return f"{self.cluster}-{self.name}"

    @property
    def address(self) -> str:
        return f"172.31.0.{10 + self.number}"

    @property
    def pod_network(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def cgroup(self) -> str:
        """Name of the folder in every hierarchy of cgroups."""
        return f"penstock-cluster-{self.cluster}-{self.name}"


class Plan(msgspec.Struct, frozen=True):
    """A whole cluster."""

    name: str = DEFAULT_NAME
    node_count: int = 2

    @property
    def state(self) -> Path:
        """Folder of keys, data and logs; memory, root's only."""
        return STATES / f"{_STATE_PREFIX}{self.name}"

    @property
    def control_netns(self) -> str:
        return f"{self.name}-cp"

    @property
    def nodes(self) -> tuple[NodePlan, ...]:
        return tuple(NodePlan(self.name, number + 1) for number in range(self.node_count))

    def node(self, name: str) -> NodePlan:
        """Return a node by its name.

        Raises:
            KeyError: there is none.
        """
        return {node.name: node for node in self.nodes}[name]


def left_states() -> list[Path]:
    """Return the folders of all clusters that run here or left something."""
    return sorted(STATES.glob(f"{_STATE_PREFIX}*"))


def netns_path(name: str) -> str:
    return f"/run/netns/{name}"
