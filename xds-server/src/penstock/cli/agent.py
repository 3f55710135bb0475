"""`penstock agent` and `penstock cni`: from options to the configuration of a node."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from penstock.ads.dial import Controller
from penstock.agent.app import serve
from penstock.agent.cni import PROGRAM, PluginSettings, install, uninstall
from penstock.agent.config import CniFolders, Config, KubernetesConfig
from penstock.agent.leave import leave
from penstock.meta.errors import PenstockError
from penstock.meta.names import NamespacedName
from penstock.meta.node_identity import ADS_PORT, JOIN_PORT
from penstock.meta.paths import NODE_NETNS, RunPaths
from penstock.runtime.logs import log_to_stderr
from penstock.runtime.stop import stop_signal
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.kubeconfig import from_kubeconfig, in_cluster, own_namespace

DEFAULT_NAMESPACE = "penstock-system"


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """Options of an agent on Kubernetes, as they were given."""

    kubeconfig: Path | None
    context: str
    controllers: tuple[str, ...]
    service: str
    namespace: str
    ca_file: Path | None
    token_file: Path
    unpoliced: tuple[str, ...]
    kubepods: Path | None
    bpffs: Path
    netns_folder: Path
    node_addresses: tuple[str, ...]
    cni_programs: Path | None
    cni_configuration: Path | None


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of every agent."""

    cluster: ClusterNode | None = None
    """None where `penstock up` starts the pods."""
    health: str = ""
    """HOST:PORT; "" for none."""
    only_gateways: bool = False
    """Whether to do without eBPF and in the present network namespace."""
    stop_envoy: bool = False
    """Whether Envoy ends with the agent; else the next agent takes it over."""
    concurrency: int | None = None
    """Envoy's worker threads; None is one for each processor."""


def run_agent(
    paths: RunPaths, node: str, options: AgentOptions, *, log_level: str, log_json: bool
) -> None:
    """Run the agent until SIGTERM.

    Raises:
        PenstockError: it cannot run here, or an option makes no sense.
    """
    log_to_stderr(json=log_json, level=log_level)
    cluster = options.cluster
    here = options.only_gateways or cluster is not None
    config = Config(
        paths=paths,
        node=node,
        netns=None if here else paths.netns / NODE_NETNS,
        datapath=not options.only_gateways,
        drain=1.0 if options.stop_envoy else 0.0,
        concurrency=options.concurrency,
        kubernetes=None if cluster is None else _kubernetes(cluster, dict(os.environ)),
        health=_address(options.health) if options.health else None,
    )
    asyncio.run(serve(config))


def install_cni(
    paths: RunPaths,
    programs: Path,
    configuration: Path,
    *,
    program: Path | None,
    unpoliced: Sequence[str] | None,
) -> None:
    """Install the CNI plugin and say what was done.

    Raises:
        PenstockError: there is no network to add it to, or no plugin.
    """
    settings = PluginSettings(
        socket=paths.agent_api, unpoliced=tuple(sorted(unpoliced or (DEFAULT_NAMESPACE,)))
    )
    folders = CniFolders(programs=programs, configuration=configuration)
    try:
        changed = install(folders, settings, program or PROGRAM)
    except OSError as error:
        raise PenstockError(f"the CNI plugin cannot be installed: {error}") from error
    click.echo("installed" if changed else "already installed")


def uninstall_cni(programs: Path, configuration: Path) -> None:
    """Take the CNI plugin away.

    Raises:
        PenstockError: a folder cannot be written.
    """
    try:
        uninstall(CniFolders(programs=programs, configuration=configuration))
    except OSError as error:
        raise PenstockError(f"the CNI plugin cannot be taken away: {error}") from error


def leave_node(
    paths: RunPaths, bpffs: Path, programs: Path, configuration: Path, *, stay: bool
) -> None:
    """Take away all that agents left on this node.

    Args:
        paths: of the agent.
        bpffs: folder of what is pinned.
        programs: folder of CNI plugins.
        configuration: folder of network configurations.
        stay: return only when told to stop, as a DaemonSet's pod must.

    Raises:
        PenstockError: something stays.
    """
    log_to_stderr(json=True)
    leave(paths, bpffs, CniFolders(programs=programs, configuration=configuration))
    if stay:
        asyncio.run(_until_stopped())


async def _until_stopped() -> None:
    await stop_signal().wait()


def _kubernetes(options: ClusterNode, environment: Mapping[str, str]) -> KubernetesConfig:

    namespace = options.namespace or own_namespace() or DEFAULT_NAMESPACE
    local = [one for one in options.controllers if one.startswith("unix:")]
    remote = [one for one in options.controllers if one not in local]
    try:
        own = tuple(
            ipaddress.ip_address(one.strip())
            for several in options.node_addresses
            for one in several.split(",")
        )
    except ValueError as error:
        raise PenstockError(f"--node-ip: {error}") from error
    return KubernetesConfig(
        access=_access(options, environment),
        environment=environment,
        ca_file=options.ca_file,
        token_file=options.token_file,
        service=NamespacedName(namespace, options.service),
        controllers=tuple(map(_controller, remote)),
        local_controller=local[0] if local else "",
        unpoliced=frozenset(options.unpoliced or (namespace,)),
        kubepods=options.kubepods,
        bpffs=options.bpffs,
        netns_folder=options.netns_folder,
        node_addresses=own,
        cni=_cni(options),
    )


def _access(options: ClusterNode, environment: Mapping[str, str]) -> Access:

    if options.kubeconfig is not None:
        return from_kubeconfig(options.kubeconfig, options.context)
    return in_cluster(environment)


def _cni(options: ClusterNode) -> CniFolders | None:

    programs, configuration = options.cni_programs, options.cni_configuration
    if programs is None and configuration is None:
        return None
    if programs is None or configuration is None:
        raise PenstockError("give both of --cni-bin-dir and --cni-conf-dir, or none")
    return CniFolders(programs=programs, configuration=configuration)


def _controller(text: str) -> Controller:
    """Return a controller of HOST, HOST:ADS_PORT or HOST:ADS_PORT:JOIN_PORT; [::1] for IPv6."""
    host, bracket, ports = text.rpartition("]")
    if not bracket:
        host, _, ports = text.partition(":")
    numbers = [part for part in ports.strip(":").split(":") if part]
    defaults = [str(ADS_PORT), str(JOIN_PORT)]
    try:
        ads, join = map(int, numbers + defaults[len(numbers) :])
    except ValueError as error:
        raise PenstockError(f"--controller {text}: HOST[:PORT[:JOIN-PORT]]: {error}") from error
    return Controller(host=host.lstrip("["), ads=ads, join=join)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise PenstockError(f"--health-address {text}: HOST:PORT, as 127.0.0.1:15015")
    return host.strip("[]"), int(port)
