"""Wiring of the controller: every part around the source, until told to stop."""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections.abc import Coroutine, Iterable
from typing import Any

import msgspec
import structlog
from aiohttp import web

from penstock.ads.server import AdsServer
from penstock.compiler.lent import Sharing
from penstock.controlplane.api import application
from penstock.controlplane.config import Config
from penstock.controlplane.endpoint import Endpoint
from penstock.controlplane.metrics import Metrics
from penstock.controlplane.missed_nodes import MissedNodes
from penstock.controlplane.reading import Reading
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.meta.clock import Clock
from penstock.runtime.allowance import processors
from penstock.runtime.forked import Forked
from penstock.runtime.sockets import private_socket
from penstock.runtime.system_authorities import read_system_authorities
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.event_writer import EventWriter
from penstock.sources.kubernetes.object_writer import ObjectWriter
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.kubernetes.status_writer import StatusWriter
from penstock.sources.source import Source

MINUTE = 60.0
"""Seconds after which a certificate that is out of date is noticed."""

_log = structlog.get_logger("penstock.controller")


async def serve(
    config: Config, source: Source, reading: Reading, clock: Clock, stop: asyncio.Event
) -> None:
    """Serve what *source* gives until *stop* is set.

    Args:
        config: of the controller.
        source: of everything that is compiled.
        reading: runs it, and is told who takes what comes.
        clock: paces everything.
        stop: ends everything.

    Raises:
        AdsError: a socket cannot be made.
    """
    authorities = read_system_authorities(config.system_authorities)
    settings = msgspec.structs.replace(config.settings, system_authorities=authorities)
    world = World(settings, clock, Sharing(Forked()) if processors() > 1 else None)
    metrics = Metrics(world)
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
        nodes = MissedNodes(world.when_level(metrics.timed(world.take)), clock)
        work: list[Coroutine[Any, Any, None]] = [reading.give_to(nodes.take), nodes.run()]
        work.append(world.catch_up())
        work.append(endpoint.run(config.access, config.environment))
        work.append(_tell_time(world, clock))
        writing: list[Coroutine[Any, Any, None]] = []
        if isinstance(source, KubernetesSource) and config.access is not None:
            feed = StatusFeed(world, clock, source.outdated, source.version_of)
            writer = _status_writer(config, config.access, clock, feed, source.observed)
            metrics.watch(source, writer)
            writing.append(feed.run(writer))
        await _until_stopped(work, writing, endpoint, stop)
    finally:
        await runner.cleanup()
        await ads.stop()


def _status_writer(
    config: Config, access: Access, clock: Clock, feed: StatusFeed, observed: Observed
) -> StatusWriter:
    """Return what writes statuses, Events about them, and objects into the API server."""
    identity = f"{socket.gethostname()}_{secrets.token_hex(8)}"
    return StatusWriter(
        access,
        clock,
        random.random,
        feed.statuses,
        identity=identity,
        namespace=config.lease_namespace,
        environment=config.environment,
        events=EventWriter(
            clock, random.random, instance=identity, controller=feed.statuses.controller
        ),
        objects=ObjectWriter(clock, random.random, feed.objects),
        observed=observed,
    )


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
