"""`penstock controller` and `penstock agent`: from options to the configuration of a part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.logs import log_to_stderr

if TYPE_CHECKING:
    from penstock.compiler.settings import Settings
    from penstock.controlplane.network import Network
    from penstock.sources.kubernetes.access import Access

_log = structlog.get_logger("penstock.controller")


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which API server to read from, if any."""

    kubeconfig: Path | None = None
    context: str = ""
    in_cluster: bool = False
    lease_namespace: str = ""
    """Of the Lease of the one that writes statuses; "" for the pod's own, or kube-system."""
    gateway_addresses: str = "nodes"
    """"nodes", or "pool:" and addresses as `penstock.core.ranges` reads them."""
    system_namespace: str = ""
    """Of Penstock's own pods; "" for the pod's own, or penstock-system."""

    @property
    def is_used(self) -> bool:
        """Return whether there is an API server to read from."""
        return self.kubeconfig is not None or self.in_cluster


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve to other machines; see `penstock.controlplane.network.Network`."""

    ads_address: str = ""
    join_address: str = ""
    metrics_address: str = ""
    trust_domain: str = "cluster.local"
    names: tuple[str, ...] = ()
    authority_folder: Path | None = None
    join_audience: str = "penstock"
    join_account: str = ""
    """NAMESPACE/NAME; "" for penstock-agent in the namespace of this controller."""
    join_token_file: Path | None = None
    drain: float = 5.0


def run_controller(
    paths: RunPaths,
    sources: Sequence[Path],
    *,
    cluster: ClusterOptions,
    network: NetworkOptions,
    published_offset: int,
    system_authorities: Path | None,
    only_gateways: bool,
    log_level: str,
    log_json: bool,
) -> None:
    """Run the controller until SIGTERM.

    Args:
        paths: of the instance.
        sources: folders and files of YAML.
        cluster: an API server to read from instead.
        network: what to serve to other machines.
        published_offset: see `penstock.compiler.settings.Settings`.
        system_authorities: file with those that wellKnownCACertificates: System means; None is
            where this system keeps them.
        only_gateways: whether to do without eBPF and in the present network namespace.
        log_level: the least to log.
        log_json: whether to log JSON lines.

    Raises:
        PenstockError: there is not exactly one kind of source, or it cannot be reached as told, or
            an option makes no sense.
    """
    from penstock.runtime.slim import import_aiohttp

    import_aiohttp()
    from penstock.controlplane.app import run
    from penstock.controlplane.config import Config

    log_to_stderr(json=log_json, level=log_level)
    made = paths.objects if paths.objects in sources else None
    written = tuple(source for source in sources if source != made)
    environment = dict(os.environ)
    run(
        Config(
            sources=written,
            access=_access(cluster, environment, sources),
            environment=environment,
            lease_namespace=_lease_namespace(cluster),
            made=made,
            paths=paths,
            network=_network(network, _lease_namespace(cluster)),
            settings=settings_of(cluster, published_offset, only_gateways=only_gateways),
            system_authorities=system_authorities,
        )
    )


def _network(options: NetworkOptions, namespace: str) -> Network:
    from penstock.controlplane.network import Network, split_address
    from penstock.meta.names import NamespacedName
    from penstock.meta.node_identity import JOIN_PORT

    for address in (options.ads_address, options.join_address, options.metrics_address):
        if address:
            split_address(address)
    join_address = options.join_address
    if options.ads_address and not join_address:
        join_address = f"{options.ads_address.rpartition(':')[0]}:{JOIN_PORT}"
    account_namespace, _, account = options.join_account.rpartition("/")
    return Network(
        ads_address=options.ads_address,
        join_address=join_address,
        metrics_address=options.metrics_address,
        namespace=namespace,
        trust_domain=options.trust_domain,
        names=options.names,
        authority_folder=options.authority_folder,
        join_audience=options.join_audience,
        join_account=NamespacedName(account_namespace or namespace, account or "penstock-agent"),
        join_token_file=options.join_token_file,
        drain=options.drain,
    )


def settings_of(cluster: ClusterOptions, published_offset: int, *, only_gateways: bool) -> Settings:
    """Return what the compiler is told.

    Raises:
        PenstockError: an option makes no sense.
    """
    from penstock.compiler.settings import Addressing, Reach, Settings
    from penstock.core.ranges import AddressRanges

    if only_gateways or not cluster.is_used:
        reach = Reach.HOST if only_gateways else Reach.NODE
        return Settings(reach=reach, published_offset=published_offset)
    system = cluster.system_namespace or _own_namespace(cluster) or "penstock-system"
    mode, _, pool = cluster.gateway_addresses.partition(":")
    match mode:
        case "nodes" | "loadbalancer" if not pool:
            return Settings(
                reach=Reach.CLUSTER, addressing=Addressing(mode), system_namespace=system
            )
        case "pool":
            text = str(AddressRanges(pool))
            return Settings(reach=Reach.CLUSTER, gateway_pool=text, system_namespace=system)
        case _:
            raise PenstockError(
                f"--gateway-addresses {cluster.gateway_addresses!r} is none of nodes, "
                "loadbalancer, and pool:… with addresses; write pool:192.0.2.0/26"
            )


def _access(
    cluster: ClusterOptions, environment: Mapping[str, str], sources: Sequence[Path]
) -> Access | None:
    from penstock.sources.kubernetes.kubeconfig import from_kubeconfig, in_cluster

    if [bool(sources), cluster.kubeconfig is not None, cluster.in_cluster].count(True) != 1:
        raise PenstockError("give one of --source, --kubeconfig and --in-cluster")
    if cluster.kubeconfig is not None:
        return from_kubeconfig(cluster.kubeconfig, cluster.context)
    return in_cluster(environment) if cluster.in_cluster else None


def _own_namespace(cluster: ClusterOptions) -> str:
    from penstock.sources.kubernetes.kubeconfig import own_namespace

    return own_namespace() if cluster.in_cluster else ""


def _lease_namespace(cluster: ClusterOptions) -> str:
    return cluster.lease_namespace or _own_namespace(cluster) or "kube-system"
