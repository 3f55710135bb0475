"""A node of a Kubernetes cluster.

Envoy is a pod of its own, beside the agent's; other pods are registered by the CNI plugin, and
those that were there before by the inventory. When all of them are known, the programs are attached
to the cgroup of all pods, and from then on a pod that nobody has registered is closed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from penstock.ads.dial import Controllers, ControllersDialer, Dialer, fixed_controllers
from penstock.ads.fan_out import ReportFanOut
from penstock.ads.join import JoinClient
from penstock.ads.reports import Reports
from penstock.agent.capture import Capture, Placement
from penstock.agent.cluster import ApiAccess, ControllerFinder, pods_of
from penstock.agent.cni import CniInstallation, PluginSettings
from penstock.agent.config import Config, KubernetesConfig
from penstock.agent.envoy_observer import EnvoyObserver
from penstock.agent.envoy_process import EnvoyOptions
from penstock.agent.envoy_start import envoy_start
from penstock.agent.homecoming import Homecoming
from penstock.agent.inventory import PodInventory
from penstock.agent.kubepods import Kubepods, find_kubepods
from penstock.agent.node_addresses import NodeAddresses
from penstock.agent.pods import Pods
from penstock.bpf.datapath import OWN_NETNS
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.meta.paths import HOST_NETNS, NODE_NETNS, RunPaths
from penstock.runtime.files import replace_file, replace_link
from penstock.xds import types

_NEEDS = "the agent's pod needs hostNetwork, hostPID and the capability SYS_PTRACE"

log = structlog.get_logger(__name__)


class KubernetesNodeError(PenstockError):
    """The agent's pod is not what it must be."""


def placement(config: Config, where: KubernetesConfig, kubepods: Kubepods) -> Placement:
    """Return where the kernel's part of the agent is."""
    return Placement(
        bpffs=where.bpffs,
        root=config.paths.root,
        netns=config.netns or OWN_NETNS,
        pods_cgroup=kubepods.root,
    )


def kubepods_of(where: KubernetesConfig) -> Kubepods:
    """Return where the kubelet has its pods.

    Raises:
        DatapathError: that is not found.
    """
    return Kubepods(where.kubepods) if where.kubepods else find_kubepods()


def _cni_of(config: Config, where: KubernetesConfig) -> CniInstallation | None:
    """Return what installs our CNI plugin; None if it is not to be installed."""
    if where.cni is None:
        return None
    unpoliced = tuple(sorted(where.unpoliced))
    return CniInstallation(
        where.cni, PluginSettings(socket=config.paths.agent_api, unpoliced=unpoliced)
    )


class KubernetesNode:
    """See `penstock.agent.node.Node`."""

    def __init__(
        self,
        config: Config,
        where: KubernetesConfig,
        *,
        capture: Capture,
        pods: Pods,
        gateways_are_served: Callable[[], bool],
        in_touch: Callable[[], bool],
        reports: Reports,
        review: Callable[[], None],
        clock: Clock,
    ) -> None:
        """Start nothing yet.

        Args:
            config: of the agent.
            where: its Kubernetes.
            capture: the kernel's part.
            pods: the registered pods.
            gateways_are_served: tells whether Envoy has the listeners of Gateways.
            in_touch: tells whether a controller says what is new.
            reports: starts a stream of what is in force here.
            review: looks again in which pods Envoy can listen.
            clock: for waiting.

        Raises:
            KubernetesNodeError: this process is not on the node's network.
        """
        self._where = where
        self._capture = capture
        self._pods = pods
        self._paths = config.paths
        kubepods = kubepods_of(where)
        self.envoy = EnvoyObserver(
            config.paths, kubepods, capture.attach_envoy, netns_folder=where.netns_folder
        )
        api = ApiAccess(where.access, where.environment)
        self._source = pods_of(config.node, api, clock)
        self._inventory = PodInventory(
            pods, kubepods, on_complete=self._complete, netns_folder=where.netns_folder
        )
        self._attached = capture.datapath.attached_pods()
        """Whether every pod is judged; from the start if an earlier agent has left it so."""
        self._addresses = NodeAddresses(
            config.netns or OWN_NETNS,
            where.node_addresses,
            may_add=gateways_are_served,
            in_touch=in_touch,
        )
        capture.announces(lambda: self._addresses.present)
        self._cni = _cni_of(config, where)
        homecoming = self._homecoming(config, where, review, clock)
        self._running: list[Callable[[], Coroutine[Any, Any, None]]] = [homecoming.run]
        if self._cni is not None:
            self._running.append(self._cni.run)
        self._reports = reports
        self.reports_itself = not where.local_controller
        self.controller = self._dialer(config, api, clock)
        _link_namespaces(config, where)

    def _homecoming(
        self, config: Config, where: KubernetesConfig, review: Callable[[], None], clock: Clock
    ) -> Homecoming:
        return Homecoming(
            config.paths.envoy_admin,
            pid=lambda: self.envoy.status().pid,
            home=lambda: self.envoy.home,
            host=where.host_netns,
            review=review,
            clock=clock,
        )

    def gateways_netns(self) -> Path:
        """Return that of Envoy's pod."""
        return self.envoy.netns

    def envoy_cgroups(self) -> frozenset[int]:
        """Return those of Envoy's pod and its containers."""
        return self.envoy.cgroups()

    def parts(self, ready: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """Return what follows the API server and keeps the node as it should be."""
        return [
            self._source.run(self._inventory.take),
            self._inventory.run(ready),
            self._addresses.run(),
            *(run() for run in self._running),
        ]

    def synced(self) -> None:
        """Let addresses go that the controller does not name, and links of pods that are gone."""
        self._addresses.may_remove()
        kept = {NODE_NETNS, HOST_NETNS, *self._pods.registered()}
        for link in self._paths.netns.iterdir():
            if link.is_symlink() and link.name not in kept:
                link.unlink()

    def told(self, type_url: str) -> None:
        """Take a controller's word on addresses."""
        if type_url == types.ADDRESS:
            self._addresses.told()

    def changed(self) -> None:
        """Put the addresses on the link that the controller names."""
        wanted = {one.address for one in self._capture.state.addresses.values()}
        self._addresses.want(wanted)
        self._addresses.look_again()

    def missing(self) -> str:
        """Return why pods are not all captured."""
        if not self._inventory.listed:
            return "the API server has not said which Pods are on this node"
        if not self._attached:
            return "the pods of this node are not all captured yet"
        return self._cni.missing() if self._cni is not None else ""

    def object_uid(self, uid: str) -> str:
        """Return the uid of the Pod object; a static pod has another one on the machine."""
        return self._inventory.object_uid(uid)

    def _complete(self) -> None:
        self._capture.attach_pods()
        self._attached = True
        log.info("all pods are judged", pods=len(self._pods.registered()))

    def _dialer(self, config: Config, api: ApiAccess, clock: Clock) -> str | Dialer:
        where = self._where
        if where.local_controller:
            return where.local_controller
        controllers: Controllers
        ca_file = where.ca_file or config.paths.authority
        if where.controllers:
            controllers = fixed_controllers(*where.controllers)
        else:
            followed = ca_file if where.ca_file is None else None
            memory = config.paths.state / "controllers.json"
            finder = ControllerFinder(api, where.service, clock, authority=followed, memory=memory)
            self._running.append(finder.run)
            controllers = finder.controllers
        credentials = JoinClient(
            config.node,
            ca_file=ca_file,
            token_file=where.token_file,
            controllers=controllers,
            clock=clock,
            random=random.random,
            folder=config.paths.keys,
        )
        fan_out = ReportFanOut(
            controllers, credentials, reports=self._reports, clock=clock, random=random.random
        )
        self._running += [credentials.run, fan_out.run]
        return ControllersDialer(controllers, credentials, random.random)


def write_start(paths: RunPaths, options: EnvoyOptions) -> None:
    """Write how Envoy's pod starts Envoy."""
    replace_file(paths.envoy_start, envoy_start(paths, options).encode(), durable=True)


def _link_namespaces(config: Config, where: KubernetesConfig) -> None:
    """Name the namespaces that listeners and clusters name, as Envoy's process finds them.

    Raises:
        KubernetesNodeError: this process is not on the node's network.
    """
    own = (config.netns or OWN_NETNS).stat().st_ino
    try:
        nodes = where.host_netns.stat().st_ino
    except OSError as error:
        raise KubernetesNodeError(
            f"the node's network namespace is not to be seen: {error}; {_NEEDS}"
        ) from error
    if nodes != own:
        raise KubernetesNodeError(
            f"this process is not on the node's network, {where.host_netns}; {_NEEDS}"
        )
    replace_link(config.paths.netns / HOST_NETNS, where.host_netns)
    node = config.paths.netns / NODE_NETNS
    if not node.exists():  # else Envoy's pod is known
        replace_link(node, OWN_NETNS)
