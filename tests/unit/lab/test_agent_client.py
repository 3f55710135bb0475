from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from penstock.lab.agent_client import (
    AgentUnavailableError,
    HttpAgentClient,
    PodNotCapturedError,
    PodRegistration,
)
from penstock.meta.paths import RunPaths

POD = PodRegistration(
    uid="u-1",
    namespace="shop",
    name="a",
    netns="netns/u-1",
    cgroup="/sys/fs/cgroup/x",
    addresses=("10.244.1.1", "fd44::1:1"),
)


class Agent:
    """Answers every request with one status and keeps what it was told."""

    def __init__(self) -> None:
        self.status = 200
        self.told: list[tuple[str, str, object]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.told.append((request.method, request.path, body))
        return web.json_response({"error": "no listener"}, status=self.status)


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncGenerator[tuple[Agent, HttpAgentClient], None]:
    agent, app = Agent(), web.Application()
    app.router.add_route("*", "/{tail:.*}", agent.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    paths = RunPaths(tmp_path)
    await web.UnixSite(runner, str(paths.agent_api)).start()
    client = HttpAgentClient(paths)
    yield agent, client
    await client.close()
    await runner.cleanup()


async def test_pod_is_told_with_paths_and_addresses(served: tuple[Agent, HttpAgentClient]) -> None:
    agent, client = served
    await client.put_pod(POD)
    await client.delete_pod("u-1")
    body = {
        "uid": "u-1",
        "namespace": "shop",
        "name": "a",
        "netns": "netns/u-1",
        "cgroup": "/sys/fs/cgroup/x",
        "addresses": ["10.244.1.1", "fd44::1:1"],
    }
    assert agent.told == [("PUT", "/v1/pods/u-1", body), ("DELETE", "/v1/pods/u-1", None)]


async def test_pod_that_is_not_captured_yet_is_told_apart(
    served: tuple[Agent, HttpAgentClient],
) -> None:
    agent, client = served
    agent.status = 504
    with pytest.raises(PodNotCapturedError, match="no listener"):
        await client.put_pod(POD)
    agent.status = 400
    with pytest.raises(AgentUnavailableError, match="agent answered 400 to PUT") as caught:
        await client.put_pod(POD)
    assert not isinstance(caught.value, PodNotCapturedError)


async def test_forgetting_an_unknown_pod_is_no_error(served: tuple[Agent, HttpAgentClient]) -> None:
    agent, client = served
    agent.status = 404
    await client.delete_pod("u-1")


async def test_absent_agent_is_unavailable(tmp_path: Path) -> None:
    client = HttpAgentClient(RunPaths(tmp_path))
    with pytest.raises(AgentUnavailableError, match=r"no answer from the agent on .*agent\.sock"):
        await client.put_pod(POD)
    await client.close()
