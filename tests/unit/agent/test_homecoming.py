from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web

from penstock.agent.homecoming import LONGEST_REST_SECONDS, LOOK_SECONDS, LOOKS, Homecoming
from support.fake_clock import FakeClock

PID = os.getpid()
"""It serves Envoy's admin socket."""


class Machine:
    """A process, its own network namespace and others, as files."""

    def __init__(self, folder: Path) -> None:
        self.home, self.host, self.pod, self.other = (
            folder / name for name in ("home", "host", "pod", "other")
        )
        for namespace in (self.home, self.host, self.pod, self.other):
            namespace.touch()
        self._net = folder / "proc" / str(PID) / "ns" / "net"
        self._net.parent.mkdir(parents=True)
        self.known: Path | None = self.home
        self.clock = FakeClock()
        self.reviews = self.ends = 0
        self.admin = folder / "admin.sock"
        self.watch = Homecoming(
            self.admin,
            pid=lambda: PID,
            home=lambda: self.known,
            host=self.host,
            review=self._review,
            clock=self.clock,
            rest=600.0,
            proc=folder / "proc",
        )

    def _review(self) -> None:
        self.reviews += 1

    async def serve(self) -> web.AppRunner:
        """Be Envoy's admin interface."""

        async def end(_: web.Request) -> web.Response:
            self.ends += 1
            return web.Response()

        application = web.Application()
        application.router.add_post("/quitquitquit", end)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, str(self.admin)).start()
        return runner

    async def stay(self, place: Path, seconds: float) -> None:
        """Let Envoy's main thread be at a place for some time."""
        self._net.unlink(missing_ok=True)
        self._net.symlink_to(place)
        self.clock.advance(max(0.0, seconds - LOOKS * LOOK_SECONDS))
        for _ in range(LOOKS + 1):
            await self._looked()
            self.clock.advance(LOOK_SECONDS)
        await self._looked()

    async def _looked(self) -> None:
        async with asyncio.timeout(10):
            while not self.clock.sleepers:  # noqa: ASYNC110 - a clock tells nobody
                await asyncio.sleep(0.001)

    def looks(self, *places: Path | None) -> list[int | None]:
        return [self._look(place) for place in places]

    def _look(self, place: Path | None) -> int | None:
        self._net.unlink(missing_ok=True)
        if place is not None:
            self._net.symlink_to(place)
        return self.watch.astray()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_envoy_that_stays_elsewhere_is_told_once(machine: Machine) -> None:
    found = machine.looks(machine.home, *([machine.pod] * (LOOKS + 3)))
    assert found == [None] * LOOKS + [PID] + [None] * 3


def test_visits_of_pods_are_its_work(machine: Machine) -> None:
    assert not any(machine.looks(*([machine.pod, machine.other] * LOOKS)))
    back = [machine.pod] * (LOOKS - 1) + [machine.home]
    assert not any(machine.looks(*(back * 3)))


def test_a_process_that_is_gone_is_nowhere(machine: Machine) -> None:
    assert not any(machine.looks(*([None] * LOOKS)))


def test_without_a_known_home_nothing_is_said(machine: Machine) -> None:
    machine.known = None
    assert not any(machine.looks(*([machine.pod] * LOOKS)))


def test_in_the_network_of_the_node_it_is_left(machine: Machine) -> None:
    """A port there may be somebody else's for ever; Gateways dial from its pod all the same."""
    assert not any(machine.looks(*([machine.host] * LOOKS)))


async def test_an_envoy_that_is_left_elsewhere_is_ended_ever_more_rarely(machine: Machine) -> None:
    runner = await machine.serve()
    watch = asyncio.create_task(machine.watch.run())
    try:
        await machine.stay(machine.home, 10)
        assert machine.ends == 0
        await machine.stay(machine.pod, 10)
        assert (machine.reviews, machine.ends) == (1, 1)
        await machine.stay(machine.pod, 580)
        assert machine.ends == 1
        await machine.stay(machine.pod, 20)
        assert machine.ends == 2
        await machine.stay(machine.pod, 1180)
        assert machine.ends == 2
        await machine.stay(machine.pod, 20)
        assert (machine.reviews, machine.ends) == (3, 3)
        for _ in range(10):
            await machine.stay(machine.pod, LONGEST_REST_SECONDS + 20)
        assert machine.ends == 13
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await runner.cleanup()
