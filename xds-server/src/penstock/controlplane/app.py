"""Wiring of the controller: build every part, run until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog
from aiohttp import web

from penstock.ads.server import AdsServer
from penstock.controlplane.api import application
from penstock.controlplane.config import Config, source_of, status_writer
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.runtime.clock import SystemClock
from penstock.runtime.sockets import private_socket
from penstock.runtime.stop import stop_signal
from penstock.sources.kubernetes.source import KubernetesSource

_log = structlog.get_logger("penstock.controller")


def run(config: Config) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    asyncio.run(_main(config))


async def _main(config: Config) -> None:
    await serve(config, stop_signal())


async def serve(config: Config, stop: asyncio.Event) -> None:
    """Serve until *stop* is set.

    Raises:
        AdsError: a socket cannot be made.
    """
    clock = SystemClock()
    world = World(config.settings)
    source = source_of(config, clock)
    acks = world.acknowledgements
    ads = AdsServer(world, clock, hooks=acks, on_report=acks.on_report)
    runner = web.AppRunner(application(world, source), access_log=None)
    await ads.start(config.paths.controller_ads)
    try:
        await runner.setup()
        await web.SockSite(runner, private_socket(config.paths.controller_api)).start()
        origin = [config.access.server] if config.access else [*map(str, config.sources)]
        _log.info("serving", run_dir=str(config.paths.root), sources=origin)
        work: list[Coroutine[Any, Any, None]] = [source.run(world.take)]
        if isinstance(source, KubernetesSource) and config.access is not None:
            feed = StatusFeed(world, clock, source.outdated)
            work.append(feed.run(status_writer(config, config.access, clock, feed.statuses)))
        await _until_stopped(work, stop)
    finally:
        await runner.cleanup()
        await ads.stop()


async def _until_stopped(work: Iterable[Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Do all of *work* until *stop* is set, or some of it fails; then end it in an orderly way."""
    tasks = [asyncio.create_task(one) for one in work]
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*tasks, stopped):
        task.cancel()
    await asyncio.wait({*tasks, stopped})
    for task in tasks:
        if task in done:
            task.result()
