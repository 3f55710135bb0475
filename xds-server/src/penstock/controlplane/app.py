"""Wiring of the controller: build every part, run until told to stop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog
from aiohttp import web

from penstock.ads.server import AdsServer
from penstock.controlplane.api import application
from penstock.controlplane.config import Config, source_of, status_writer
from penstock.controlplane.endpoint import Endpoint
from penstock.controlplane.metrics import Metrics
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.meta.clock import Clock
from penstock.runtime.clock import SystemClock
from penstock.runtime.sockets import private_socket
from penstock.runtime.stop import stop_signal
from penstock.sources.kubernetes.source import KubernetesSource

MINUTE = 60.0
"""Seconds after which a certificate that is out of date is noticed."""

_log = structlog.get_logger("penstock.controller")


def run(config: Config) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    # Until the first snapshot is made everything is kept; World turns the collector on again.
    gc.disable()
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
    metrics = Metrics(world)
    source = source_of(config, clock)
    acks = world.acknowledgements
    ads = AdsServer(world, clock, hooks=acks, on_report=acks.on_report, on_silence=acks.on_silence)
    endpoint = Endpoint(config.network, world, metrics, clock)
    runner = web.AppRunner(application(world, source), access_log=None)
    await ads.start(config.paths.controller_ads)
    try:
        await runner.setup()
        await web.SockSite(runner, private_socket(config.paths.controller_api)).start()
        origin = [config.access.server] if config.access else [*map(str, config.sources)]
        _log.info("serving", run_dir=str(config.paths.root), sources=origin)
        work: list[Coroutine[Any, Any, None]] = [source.run(metrics.timed(world.take))]
        work.append(endpoint.run(config.access, config.environment))
        work.append(_tell_time(world, clock))
        writing: list[Coroutine[Any, Any, None]] = []
        if isinstance(source, KubernetesSource) and config.access is not None:
            feed = StatusFeed(world, clock, source.outdated)
            writer = status_writer(config, config.access, clock, feed.statuses, feed.objects)
            metrics.watch(source, writer)
            writing.append(feed.run(writer))
        await _until_stopped(work, writing, endpoint, stop)
    finally:
        await runner.cleanup()
        await ads.stop()


async def _tell_time(world: World, clock: Clock) -> None:
    """Tell the world what time it is, until cancelled."""
    while True:
        world.tell_time(clock.now())
        await clock.sleep(MINUTE)


async def _until_stopped(
    work: Iterable[Coroutine[Any, Any, None]],
    writing: Iterable[Coroutine[Any, Any, None]],
    endpoint: Endpoint,
    stop: asyncio.Event,
) -> None:
    """Do all of *work* and *writing* until *stop* is set, or some of it fails.

    Then another controller may write at once, nodes go elsewhere, and the rest ends.
    """
    writers = [asyncio.create_task(one) for one in writing]
    tasks = [*writers, *(asyncio.create_task(one) for one in work)]
    stopped: asyncio.Task[Any] = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if stopped in done:
        _log.info("ending: nodes go to another controller")
        for task in writers:
            task.cancel()
        await endpoint.drain()
    for task in (*tasks, stopped):
        task.cancel()
    await asyncio.wait({*tasks, stopped})
    for task in tasks:
        if task in done:
            task.result()
