"""The datapath of a machine without eBPF: it remembers nothing and captures nothing."""

from __future__ import annotations

from collections.abc import Callable

from penstock.agent.datapath import LocalPod
from penstock.agent.lattice import IdentityPolicy
from penstock.agent.node_resources import Service
from penstock.meta.errors import PenstockError


class NoDatapathError(PenstockError):
    """A pod cannot be captured, because there is no datapath."""


class NoKernel:
    """Enforces nothing; a pod is refused rather than left open."""

    def set_pod(self, pod: LocalPod, identity: int, namespace: str) -> None:
        """Do nothing."""

    def remove_pod(self, uid: str) -> None:
        """Do nothing."""

    def set_identity(self, address: str, identity: int) -> None:
        """Do nothing."""

    def remove_identity(self, address: str) -> None:
        """Do nothing."""

    def set_policy(self, identity: int, policy: IdentityPolicy) -> None:
        """Do nothing."""

    def remove_policy(self, identity: int) -> None:
        """Do nothing."""

    def set_service(self, name: str, service: Service) -> None:
        """Do nothing."""

    def remove_service(self, name: str) -> None:
        """Do nothing."""

    def netns_cookie(self, path: str) -> int:
        """Refuse.

        Raises:
            NoDatapathError: always.
        """
        raise NoDatapathError(
            f"{path}: pods are not captured without the eBPF datapath; this agent serves gateways"
        )

    def attach_netns(self, uid: str, path: str) -> None:
        """Refuse.

        Raises:
            NoDatapathError: always.
        """
        del uid
        self.netns_cookie(path)

    def detach_netns(self, uid: str) -> None:
        """Do nothing."""

    def leave_netns(self, uid: str) -> Callable[[], None]:
        """Return what does nothing."""
        del uid
        return lambda: None

    def covers(self, cgroup: str) -> bool:
        """Return True: it is refused later, with the reason."""
        del cgroup
        return True
