"""`penstock controller` and `penstock agent`: from options to the configuration of a part."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from penstock.meta.paths import RunPaths
from penstock.runtime.logs import log_to_stderr


def run_controller(
    paths: RunPaths,
    sources: Sequence[Path],
    *,
    published_offset: int,
    only_gateways: bool,
    log_json: bool,
) -> None:
    """Run the controller until SIGTERM.

    Args:
        paths: of the instance.
        sources: folders and files of YAML.
        published_offset: see `penstock.compiler.settings.Settings`.
        only_gateways: whether to do without eBPF and in the present network namespace.
        log_json: whether to log JSON lines.
    """
    from penstock.compiler.settings import Reach, Settings
    from penstock.controlplane.app import run
    from penstock.controlplane.config import Config

    log_to_stderr(json=log_json)
    reach = Reach.HOST if only_gateways else Reach.NODE
    settings = Settings(reach=reach, published_offset=published_offset)
    made = paths.objects if paths.objects in sources else None
    written = tuple(source for source in sources if source != made)
    run(Config(sources=written, made=made, paths=paths, settings=settings, log_json=log_json))


def run_agent(
    paths: RunPaths, node: str, *, only_gateways: bool, stop_envoy: bool, log_json: bool
) -> None:
    """Run the agent until SIGTERM.

    Args:
        paths: of the instance.
        node: name of the node.
        only_gateways: whether to do without eBPF and in the present network namespace.
        stop_envoy: whether Envoy ends with the agent; else the next agent takes it over.
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
        netns=None if only_gateways else paths.netns / "node",
        datapath=not only_gateways,
        drain=1.0 if stop_envoy else 0.0,
    )
    asyncio.run(serve(config))
