"""Wiring of the controller: build every part, run until told to stop."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web

from penstock.ads.server import AdsServer
from penstock.controlplane.api import application
from penstock.controlplane.config import Config, source_of
from penstock.controlplane.world import World
from penstock.runtime.clock import SystemClock
from penstock.runtime.sockets import private_socket
from penstock.runtime.stop import stop_signal
from penstock.sources.source import Source

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
        await _until_stopped(source, world, stop)
    finally:
        await runner.cleanup()
        await ads.stop()


async def _until_stopped(source: Source, world: World, stop: asyncio.Event) -> None:
    feed = asyncio.create_task(source.run(world.take))
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({feed, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in (feed, stopped):
        task.cancel()
    if feed in done:
        feed.result()
