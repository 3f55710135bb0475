"""An agent in this process with the real Envoy, and a controller that a test fills."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.agent.app import Agent
from penstock.agent.config import Config
from penstock.controlplane.words import Said
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Delta
from support.reports import rows

PATIENCE = 60.0


async def until(fact: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not await fact():  # noqa: ASYNC110 - facts about processes have no event
            await asyncio.sleep(0.02)


class Controller:
    """What a controller is for an agent: ADS and reports."""

    def __init__(self, node: str, socket: Path) -> None:
        self.node = node
        self.store = SnapshotStore()
        self.reports: dict[tuple[str, str], Said] = {}
        self._socket = socket
        self._server = AdsServer(self.store, SystemClock(), on_report=self._on_report)

    def send(self, *resources: Resource, removed: tuple[ResourceName, ...] = ()) -> None:
        self.store.apply(self.node, Delta(resources, removed))

    async def start(self) -> None:
        await self._server.start(self._socket)

    async def stop(self) -> None:
        await self._server.stop()

    def _on_report(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        assert node == self.node
        if full:
            self.reports.clear()
        for key, said in rows(report).items():
            self.reports[key.type_url.rpartition(".")[2], key.name] = said


class AgentClient:
    """Requests to the agent's API."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connector = aiohttp.UnixConnector(str(self._socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://agent{path}", json=body) as answer,
        ):
            return answer.status, json.loads(await answer.read())

    async def get(self, path: str) -> Any:
        status, body = await self.call("GET", path)
        assert status == 200, body
        return body

    async def flows(self) -> list[dict[str, Any]]:
        connector = aiohttp.UnixConnector(str(self._socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://agent/v1/flows?last=100") as answer,
        ):
            return [json.loads(line) for line in (await answer.text()).splitlines()]


@contextlib.asynccontextmanager
async def running_agent(config: Config) -> AsyncGenerator[AgentClient]:
    """Run an agent until the block ends; Envoy ends with it only if the config says so."""
    stop = asyncio.Event()
    task = asyncio.create_task(Agent(config).run(stop))
    client = AgentClient(config.paths.agent_api)

    async def answers() -> bool:
        if task.done():
            task.result()
        try:
            return (await client.call("GET", "/v1/status"))[0] == 200
        except (aiohttp.ClientError, OSError):
            return False

    try:
        await until(answers)
        yield client
    finally:
        stop.set()
        await task
