"""What a controller has for statuses and objects, over a real API server; several of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from typing import ClassVar, TypeVar

import aiohttp

from penstock.compiler.kinds import KINDS
from penstock.compiler.settings import Settings
from penstock.controlplane.config import TOLD_KINDS
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.gatewayapi.resources import CONTROLLER_NAME
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.event_writer import EventWriter
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.kubernetes.status_writer import StatusWriter
from penstock.status.lease import Terms
from support.kube import KubeApi
from support.source_suite import eventually

PATIENT = Terms()
QUICK = Terms(duration=5.0, deadline=4.0, renew=0.5, answer=1.5)
"""Where the Lease is to change hands, and only there: on a busy machine anybody loses it."""
LAB = Settings()
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "penstock-status", "namespace": "kube-system"},
}


class KilledWriter(StatusWriter):
    """Leaves what a controller leaves that is killed: a Lease that is not given back."""

    async def _release(self, session: aiohttp.ClientSession) -> None:
        """Say nothing."""


class Replica:
    """What a controller has for statuses, over the real server."""

    writer_type: ClassVar[type[StatusWriter]] = KilledWriter

    def __init__(self, api: KubeApi, name: str, settings: Settings, terms: Terms = PATIENT) -> None:
        self.clock = SystemClock()
        self.world = World(settings)
        observed = Observed(TOLD_KINDS)
        source = KubernetesSource(api.access, KINDS, self.clock, random.random, observed=observed)
        self._source = source
        self.feed = StatusFeed(
            self.world, self.clock, source.outdated, source.version_of, patience=0.0
        )
        self.writer = self.writer_type(
            api.access,
            self.clock,
            random.random,
            self.feed.statuses,
            identity=name,
            namespace="kube-system",
            terms=terms,
            environment={},
            observed=observed,
            events=EventWriter(
                self.clock, random.random, instance=name, controller=CONTROLLER_NAME
            ),
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def leads(self) -> bool:
        return self.writer.leads

    def start(self) -> None:
        work = (self._source.run(self.world.take), self.feed.run(self.writer))
        self._tasks = [asyncio.create_task(one) for one in work]

    async def idle(self) -> None:
        """Wait until it leads and no status is left to look at; who lost the Lease has none."""
        writer = self.writer
        before = writer.writes, writer.reads
        try:
            await eventually(lambda: self.leads and writer.waiting == 0)
        except TimeoutError as error:
            counted = writer.writes - before[0], writer.reads - before[1]
            waiting = ", ".join(map(str, writer.waiting_for)) or "nothing"
            error.add_note(f"leads: {self.leads}; written, read since: {counted}; left: {waiting}")
            raise

    async def stop(self) -> None:
        """End it; raise what had ended it before, which nobody else would hear of."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        if failures := [end for end in ends if isinstance(end, Exception)]:
            raise ExceptionGroup("a replica ended by itself", failures)


R = TypeVar("R", bound=Replica)


@contextlib.asynccontextmanager
async def running(made: R) -> AsyncGenerator[R]:
    """Run a replica in this block."""
    made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def replica(
    api: KubeApi, name: str = "one", settings: Settings = LAB, terms: Terms = PATIENT
) -> AsyncGenerator[Replica]:
    """Run a replica that writes statuses."""
    async with running(Replica(api, name, settings, terms)) as made:
        yield made
