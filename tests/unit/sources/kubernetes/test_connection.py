"""Requests to an API server that are given up."""

from __future__ import annotations

import asyncio
import gc

from aiohttp import web

from penstock.core.events import Event
from penstock.core.kinds import Service
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.access import Access
from penstock.sources.kubernetes.connection import ApiServer
from penstock.sources.kubernetes.reflector import Reflector


class GivingUp(SystemClock):
    """Has its task cancelled when the first wait for an answer has just ended."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    async def sleep(self, seconds: float) -> None:
        try:
            await super().sleep(seconds)
        finally:
            if self.task is not None:
                self.task.cancel()


async def test_an_answer_that_comes_when_its_reader_is_cancelled_is_let_go_of() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await gone.wait()
        return response

    async def deliver(_: Reflector, __: tuple[Event, ...]) -> None:
        pass

    asyncio.get_running_loop().set_debug(True)  # an answer that is lost complains
    gone = asyncio.Event()
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    clock = GivingUp()
    server = ApiServer(Access(server=f"http://127.0.0.1:{runner.addresses[0][1]}"), clock, {})
    try:
        async with server.session() as session:
            reflector = Reflector(Service, random=lambda: 0.5)
            clock.task = asyncio.create_task(server.follow(session, reflector, deliver))
            async with asyncio.timeout(10):
                await asyncio.wait({clock.task})
            assert clock.task.cancelled()
            clock.task = None
            for _ in range(3):
                await asyncio.sleep(0)
                gc.collect()
    finally:
        gone.set()
        await runner.cleanup()
