"""What a kubelet is told on a TCP port."""

from __future__ import annotations

import aiohttp
import pytest

from penstock.agent.health import Health


class Ready:
    def __init__(self) -> None:
        self.reason = "Envoy is not connected"

    def __call__(self) -> str:
        return self.reason


async def ask(port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, (await answer.text()).strip()


async def test_a_process_lives_before_its_node_is_ready(unused_tcp_port: int) -> None:
    ready = Ready()
    health = Health(ready)
    await health.start("127.0.0.1", unused_tcp_port)
    try:
        assert await ask(unused_tcp_port, "/healthz") == (200, "ok")
        assert await ask(unused_tcp_port, "/readyz") == (503, "Envoy is not connected")
        ready.reason = ""
        assert await ask(unused_tcp_port, "/readyz") == (200, "ok")
    finally:
        await health.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(unused_tcp_port, "/healthz")


async def test_health_that_was_never_started_can_be_stopped() -> None:
    await Health(Ready()).stop()
