"""The part of an API server that an agent reads: Pods, which never change by themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from aiohttp import web

from penstock.sources.kubernetes.access import Access


class PodsApi:
    """Answers lists; a watch is silent until a change ends it, so that all is read anew."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._pods: list[dict[str, Any]] = []
        self._version = 1
        self._changed = asyncio.Event()

    def set(self, pods: Iterable[dict[str, Any]]) -> None:
        self._pods = list(pods)
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "sendInitialEvents" in request.query:
            return web.json_response({"kind": "Status", "code": 400}, status=400)
        if "watch" not in request.query:
            self.asked.append(request.query.get("fieldSelector", ""))
            metadata = {"resourceVersion": str(self._version)}
            return web.json_response({"metadata": metadata, "items": self._pods})
        response = web.StreamResponse()
        await response.prepare(request)
        await self._changed.wait()
        await response.write(b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}\n')
        return response


def pod_object(uid: str, name: str, namespace: str, *addresses: str) -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "name": name, "namespace": namespace, "resourceVersion": "1"},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address} for address in addresses]},
    }


@contextlib.asynccontextmanager
async def serving_pods() -> AsyncGenerator[tuple[PodsApi, Access]]:
    api = PodsApi()
    app = web.Application()
    app.router.add_get("/api/v1/pods", api.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield api, Access(server=f"http://{host}:{port}")
    finally:
        api.set(())
        await runner.cleanup()
