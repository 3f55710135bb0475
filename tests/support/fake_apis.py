"""The HTTP APIs of controller and agent on unix sockets, with answers that a test gives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from penstock.meta.paths import RunPaths

Answers = dict[str, Any]
"""Path → what is answered as JSON; a path that is missing is 404."""


class FakeApi:
    """One API; notes what it is asked."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.broken = False
        """Whether to answer 500 with a reason."""

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        return app

    async def _get(self, request: web.Request) -> web.Response:
        self.asked.append(str(request.rel_url))
        if self.broken:
            return web.json_response({"error": "out of order"}, status=500)
        answer = self.answers.get(request.path)
        if isinstance(answer, dict) and "by query" in answer:
            answer = answer["by query"].get(request.rel_url.raw_query_string)
        if answer is None:
            return web.json_response({"error": "unknown"}, status=404)
        if request.path == "/v1/flows":
            body = b"".join(msgspec.json.encode(one) + b"\n" for one in answer)
            return web.Response(body=body, content_type="application/x-ndjson")
        return web.json_response(answer)


@contextlib.contextmanager
def served(apis: dict[Path, FakeApi]) -> Generator[None]:
    """Serve each API on its socket, in a thread of its own, as the commands block."""
    loop = asyncio.new_event_loop()
    ready, runners = threading.Event(), list[web.AppRunner]()

    async def start() -> None:
        for path, api in apis.items():
            runner = web.AppRunner(api.application())
            await runner.setup()
            await web.UnixSite(runner, str(path)).start()
            runners.append(runner)
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        for runner in runners:
            loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextlib.contextmanager
def instance(root: Path, controller: Answers, agent: Answers) -> Generator[RunPaths]:
    """Serve both APIs of an instance in *root*."""
    paths = RunPaths(root)
    apis = {paths.controller_api: FakeApi(controller), paths.agent_api: FakeApi(agent)}
    with served(apis):
        yield paths
