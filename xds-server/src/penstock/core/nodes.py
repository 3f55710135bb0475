"""The kind Node, as far as it is used.

Source: Kubernetes API reference, core/v1.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

import msgspec

from penstock.core.objects import ApiStruct, Object, names


class NodeAddress(ApiStruct, frozen=True, kw_only=True):
    """An address or a name of a node."""

    type: str
    address: str


class NodeCondition(ApiStruct, frozen=True, kw_only=True):
    """One condition of a node, as Ready; times of heartbeats are not read."""

    known_unused: ClassVar[frozenset[str]] = names("lastHeartbeatTime message reason")

    type: str
    status: str
    last_transition_time: str = ""


class NodeStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of a node."""

    known_unused: ClassVar[frozenset[str]] = names(
        "allocatable capacity config daemonEndpoints declaredFeatures features images nodeInfo "
        "phase runtimeHandlers volumesAttached volumesInUse"
    )

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class NodeSpec(ApiStruct, frozen=True, kw_only=True):
    """The part of the network that a node's pods get."""

    known_unused: ClassVar[frozenset[str]] = names(
        "configSource externalID providerID taints unschedulable"
    )

    pod_cidr: str = msgspec.field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=())


class Node(Object, frozen=True, kw_only=True):
    """core/v1 Node."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "Node"
    namespaced: ClassVar[bool] = False

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def internal_addresses(self) -> tuple[str, ...]:
        """Return the addresses by which other nodes reach this one."""
        return tuple(one.address for one in self.status.addresses if one.type == "InternalIP")

    @property
    def ready(self) -> bool:
        """Return whether the condition Ready is True; new pods may still be kept away."""
        return self._says_ready("True")

    @property
    def missed(self) -> bool:
        """Return whether nobody hears of the node, so that it is not known whether it is Ready."""
        return self._says_ready("Unknown")

    def _says_ready(self, status: str) -> bool:
        return any(one.type == "Ready" and one.status == status for one in self.status.conditions)

    @property
    def since(self) -> int:
        """Return when it became Ready or not, seconds since 1970; 0 if that is not said."""
        said = (one.last_transition_time for one in self.status.conditions if one.type == "Ready")
        try:
            return int(datetime.fromisoformat(next(said, "")).timestamp())
        except ValueError:
            return 0
