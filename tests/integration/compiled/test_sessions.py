"""Clients stay at their endpoint, whatever the weights are, and nowhere that they may not be."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import golden
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy, scope_at
from support.raw_http import Answer
from support.real_envoy import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT, EGRESS = "gateway/shop/front/80", "client/egress"
MANY = 30


class Endpoint:
    """Says its number, sets a cookie of its own, and notes the headers of what it was asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[Mapping[str, str]] = []
        self.place = ("", 0)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        own = {"Set-Cookie": "own=1; Path=/"}
        return web.Response(text=str(self.number), headers=own)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.place = (runner.addresses[0][0], runner.addresses[0][1])
        return runner


class Lab:
    def __init__(self, envoy: CompiledEnvoy, endpoints: list[Endpoint]) -> None:
        self.envoy, self.ask = envoy, envoy.ask
        self.endpoints = endpoints
        self.case = golden.compiled("sessions")

    def number_of(self, *names: str) -> set[str]:
        return {name[-1] for name in names}

    async def show(self) -> None:
        places = {f"10.244.0.{one.number}": one.place for one in self.endpoints}
        await self.envoy.run(self.case.resources, Surroundings(endpoints=places))

    async def change(self, thing: Object | Broken, kind: EventType = EventType.MODIFIED) -> None:
        self.case.compiler.apply([Event(kind, thing)])
        await self.show()

    def the(self, kind: str, name: str) -> Object:
        found = next(o for o in self.case.objects if (o.ref.kind, o.ref.name) == (kind, name))
        assert isinstance(found, Object)
        return found
