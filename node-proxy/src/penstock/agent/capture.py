"""The kernel's part of the agent: opened at the start, fed by the pipeline, read for events."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

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
from penstock.meta.paths import RunPaths

RETRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Capture:
    """Programs, maps, events and the sweeper of connections."""

    def __init__(self, config: Config) -> None:
        """Load or take over the programs and attach them to the cgroups of pods and Envoy.

        Raises:
            DatapathError: something is missing; the text says what.
            OSError: the cgroups cannot be made.
        """
        root = config.cgroup_root or _cgroup_root(config.paths)
        self.envoy_cgroup = root / "envoy"
        pods_cgroup = root / "pods"
        for folder in (self.envoy_cgroup, pods_cgroup):
            folder.mkdir(parents=True, exist_ok=True)
        self._netns = config.netns or OWN_NETNS
        self._node = config.node
        self.datapath = Datapath.open(config.paths.bpffs, host_netns=self._netns)
        self.datapath.attach_envoy(self.envoy_cgroup)
        self.datapath.attach_pods(pods_cgroup)
        self.kernel = BpfKernel(self.datapath, config.paths.root, pods_cgroup)
        self.state = NodeDatapath(self.kernel)
        self.state.set_host_addresses(host_addresses(self._netns))
        self._events: EventReader | None = None

    def sweeper(self, pods: Callable[[], Mapping[str, Path]]) -> Sweeper:
        """Return the sweeper of the local pods' connections."""
        inode = os.stat(self.envoy_cgroup).st_ino  # noqa: PTH116 - a path of a cgroup, at the start
        return Sweeper(
            self.state,
            pods,
            node_netns=self._netns,
            envoy_cgroup=inode,
            original=self.datapath.original_destination,
        )

    def read_events(self, flows: FlowLog) -> None:
        """Put the kernel's events into *flows* from now on."""
        self._events = self.datapath.events()
        asyncio.get_running_loop().add_reader(self._events.fd, self._on_events, flows)

    async def run(self, on_affected: Callable[[Affected], None]) -> None:
        """Until cancelled: write again what the kernel refused, follow the node's addresses."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                on_affected(self.state.set_host_addresses(host_addresses(self._netns)))
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


def _cgroup_root(paths: RunPaths) -> Path:
    mount = cgroup2_mount()
    if mount is None:
        raise DatapathError(NO_CGROUP2)
    return mount / paths.cgroup_name
