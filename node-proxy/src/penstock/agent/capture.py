"""The kernel's part of the agent: opened at the start, fed by the pipeline, read for events."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec
import structlog

from penstock.agent.config import Config
from penstock.agent.datapath import Affected, NodeDatapath
from penstock.agent.flows import FlowLog
from penstock.agent.kernel import BpfKernel
from penstock.agent.kernel_flows import flow_of_event
from penstock.agent.sweeper import Sweeper
from penstock.bpf.addresses import host_addresses
from penstock.bpf.capabilities import NO_CGROUP2, cgroup2_mount
from penstock.bpf.datapath import OWN_NETNS, Datapath
from penstock.bpf.errors import DatapathError
from penstock.bpf.events import EventReader

RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where the kernel's part of one agent is."""

    bpffs: Path
    """Where programs, maps and links are pinned."""
    root: Path
    """The run folder."""
    netns: Path
    """The node's network namespace."""
    pods_cgroup: Path
    """Below it are the cgroups of all pods."""


class Capture:
    """Programs, maps, events and the sweeper of connections."""

    def __init__(self, node: str, placement: Placement) -> None:
        """Load or take over the programs; what is attached already stays so.

        Raises:
            DatapathError: something is missing; the text says what.
        """
        self._node = node
        self._placement = placement
        self.datapath = Datapath.open(placement.bpffs, host_netns=placement.netns)
        self.kernel = BpfKernel(self.datapath, placement.root, placement.pods_cgroup)
        self.state = NodeDatapath(self.kernel)
        self._own_addresses: Callable[[], AbstractSet[str]] = frozenset
        self.state.set_host_addresses(self._host_addresses())
        self._events: EventReader | None = None

    def attach_pods(self) -> None:
        """Judge the sockets of all pods from now on; those of unknown pods are refused.

        Raises:
            DatapathError: the kernel refuses.
        """
        self.datapath.attach_pods(self._placement.pods_cgroup)

    def attach_envoy(self, cgroup: Path) -> None:
        """Attach to the cgroup of the node's Envoy.

        Raises:
            DatapathError: the kernel refuses.
        """
        self.datapath.attach_envoy(cgroup)

    def sweeper(
        self,
        pods: Callable[[], Mapping[str, Path]],
        *,
        gateways: Callable[[], Path],
        envoy_cgroups: Callable[[], AbstractSet[int]],
    ) -> Sweeper:
        """Return the sweeper of the local pods' connections.

        Args:
            pods: their network namespaces by uid.
            gateways: the network namespace from which Gateways dial.
            envoy_cgroups: inodes of Envoy's cgroup and of those below it.
        """
        return Sweeper(
            self.state,
            pods,
            node_netns=gateways,
            envoy_cgroups=envoy_cgroups,
            original=self.datapath.original_destination,
        )

    def announces(self, addresses: Callable[[], AbstractSet[str]]) -> None:
        """Know which of the node's addresses are of Gateways and Services: those are not HOST."""
        self._own_addresses = addresses
        self.state.set_host_addresses(self._host_addresses())

    def _host_addresses(self) -> AbstractSet[str]:
        return host_addresses(self._placement.netns) - self._own_addresses()

    def read_events(self, flows: FlowLog) -> None:
        """Put the kernel's events into *flows* from now on."""
        self._events = self.datapath.events()
        asyncio.get_running_loop().add_reader(self._events.fd, self._on_events, flows)

    async def run(self, on_affected: Callable[[Affected], None]) -> None:
        """Until cancelled: write again what the kernel refused, follow the node's addresses."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                on_affected(self.state.set_host_addresses(self._host_addresses()))
            except DatapathError as error:
                log.warning("addresses of the node not read", error=str(error))
            if self.state.failures:
                on_affected(self.state.retry())

    def close(self) -> None:
        """Let go of the datapath; what is attached stays."""
        if self._events is not None:
            asyncio.get_running_loop().remove_reader(self._events.fd)
            self._events.close()
        self.datapath.close()

    def _on_events(self, flows: FlowLog) -> None:
        if self._events is None:
            return
        offset = time.time() - time.monotonic()
        for event in self._events.read():
            flows.append(functools.partial(flow_of_event, event, self._node, self.state, offset))


def lab_placement(config: Config) -> tuple[Placement, Path]:
    """Return where the kernel's part is on a machine of our own, and Envoy's cgroup; make both.

    Raises:
        DatapathError: there is no cgroup v2.
        OSError: the cgroups cannot be made.
    """
    root = config.cgroup_root
    if root is None:
        mount = cgroup2_mount()
        if mount is None:
            raise DatapathError(NO_CGROUP2)
        root = mount / config.paths.cgroup_name
    for folder in (root / "envoy", root / "pods"):
        folder.mkdir(parents=True, exist_ok=True)
    placement = Placement(
        bpffs=config.paths.bpffs,
        root=config.paths.root,
        netns=config.netns or OWN_NETNS,
        pods_cgroup=root / "pods",
    )
    return placement, root / "envoy"
