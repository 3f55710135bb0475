"""Many objects into an API server, over many connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Self

import aiohttp
import msgspec

from support.kube import KubeApi, path_of

CONNECTIONS = 32


class Writer:
    """Creates and replaces objects; use as a context."""

    def __init__(self, api: KubeApi) -> None:
        self._url = api.url
        self._context = api.client_context()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._context)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def create(self, objects: Iterable[dict[str, Any]]) -> int:
        """Create *objects*; return how many there were."""
        waiting = iter(objects)
        made = 0

        async def work() -> None:
            nonlocal made
            for raw in waiting:
                await self._send("POST", path_of(raw).rpartition("/")[0], raw, 201)
                made += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(work())
        return made

    async def replace(self, raw: dict[str, Any]) -> None:
        """Let the object that is there say what *raw* says; return once that is committed."""
        await self._send("PATCH", path_of(raw), raw, 200)

    async def _send(self, method: str, path: str, raw: dict[str, Any], status: int) -> None:
        assert self._session is not None
        form = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": form}
        body = msgspec.json.encode(raw)
        async with self._session.request(
            method, self._url + path, data=body, headers=headers
        ) as answer:
            said = await answer.read()
            assert answer.status == status, said
