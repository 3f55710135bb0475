"""`penstock controller` and `penstock agent`: from options to the configuration of a part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.paths import NODE_NETNS, RunPaths
from penstock.runtime.logs import log_to_stderr

if TYPE_CHECKING:
    from penstock.sources.kubernetes.access import Access


class ClusterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which API server to read from, if any."""

    kubeconfig: Path | None = None
    context: str = ""
    in_cluster: bool = False
    lease_namespace: str = ""
    """Of the Lease of the one that writes statuses; "" for the pod's own, or kube-system."""


def run_controller(
    paths: RunPaths,
    sources: Sequence[Path],
    *,
    cluster: ClusterOptions,
    published_offset: int,
    only_gateways: bool,
    log_json: bool,
) -> None:
    """Run the controller until SIGTERM.

    Args:
        paths: of the instance.
        sources: folders and files of YAML.
        cluster: an API server to read from instead.
        published_offset: see `penstock.compiler.settings.Settings`.
        only_gateways: whether to do without eBPF and in the present network namespace.
        log_json: whether to log JSON lines.

    Raises:
        PenstockError: there is not exactly one kind of source, or it cannot be reached as told.
    """
    from penstock.compiler.settings import Reach, Settings
    from penstock.controlplane.app import run
    from penstock.controlplane.config import Config

    log_to_stderr(json=log_json)
    reach = Reach.HOST if only_gateways else Reach.NODE
    settings = Settings(reach=reach, published_offset=published_offset)
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
            settings=settings,
        )
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


def _lease_namespace(cluster: ClusterOptions) -> str:
    from penstock.sources.kubernetes.kubeconfig import own_namespace

    own = own_namespace() if cluster.in_cluster else ""
    return cluster.lease_namespace or own or "kube-system"


def run_agent(
    paths: RunPaths,
    node: str,
    *,
    only_gateways: bool,
    stop_envoy: bool,
    concurrency: int | None,
    log_json: bool,
) -> None:
    """Run the agent until SIGTERM.

    Args:
        paths: of the instance.
        node: name of the node.
        only_gateways: whether to do without eBPF and in the present network namespace.
        stop_envoy: whether Envoy ends with the agent; else the next agent takes it over.
        concurrency: Envoy's worker threads; None is one for each processor.
        log_json: whether to log JSON lines.

    Raises:
        PenstockError: it cannot run here.
    """
    from penstock.agent.app import serve
    from penstock.agent.config import Config

    log_to_stderr(json=log_json)
    config = Config(
        paths=paths,
        node=node,
        netns=None if only_gateways else paths.netns / NODE_NETNS,
        datapath=not only_gateways,
        drain=1.0 if stop_envoy else 0.0,
        concurrency=concurrency,
    )
    asyncio.run(serve(config))
