"""A stock Envoy over unix sockets only: no ports, no root."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web


def envoy_binary() -> Path:
    spec = importlib.util.find_spec("envoy")
    assert spec is not None
    assert spec.origin is not None
    found = [p for p in Path(spec.origin).parent.rglob("envoy*") if p.stat().st_size > 10_000_000]
    return found[0]


def bootstrap(folder: Path) -> dict[str, Any]:
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(folder / "ads.sock")}}}}
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": "n1", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "ads"}}],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "ads",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": http2,
                    "load_assignment": {
                        "cluster_name": "ads",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ]
        },
    }


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60.0
) -> None:
    """Return when *condition* holds."""
    async with asyncio.timeout(seconds):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


class RealEnvoy:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def get(self, path: str, socket: str = "web.sock") -> tuple[int, str]:
        """Return status and body; (0, "") if nothing listens."""
        connector = aiohttp.UnixConnector(path=str(self.folder / socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                async with session.get(f"http://test{path}") as response:
                    return response.status, await response.text()
            except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError):
                return 0, ""

    async def stats(self, prefix: str) -> dict[str, int]:
        _, text = await self.get(f"/stats?format=json&filter=^{prefix}", "admin.sock")
        return {s["name"]: s["value"] for s in json.loads(text)["stats"] if "value" in s}

    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()


@contextlib.asynccontextmanager
async def running_envoy(folder: Path, *arguments: str) -> AsyncGenerator[RealEnvoy]:
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(folder)))
    with (folder / "envoy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(), "-c", config, "--disable-hot-restart", "--concurrency", "1",
            "-l", "warning", *arguments, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            envoy = RealEnvoy(folder)
            yield envoy
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def backend(folder: Path, name: str) -> AsyncGenerator[Path]:
    """Run an HTTP server that answers every request with *name*."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=name)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(folder / f"{name}.sock")).start()
    try:
        yield folder / f"{name}.sock"
    finally:
        await runner.cleanup()
