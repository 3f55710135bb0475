from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from google.protobuf.message import Message

from penstock.agent import node_ads
from penstock.agent.config import Config
from penstock.agent.envoy_process import ProcessRecord
from penstock.envoy.http_connection_manager import Manager, connection_manager
from penstock.envoy.wire import pack, socket_address
from penstock.meta.names import ObjectRef, Origin
from penstock.meta.paths import RunPaths
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.runtime.processes import start_ticks
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, make_resource
from support.agent_rig import AgentClient, Controller, running_agent, until

NODE = "node-1"
ORIGIN = Origin(ObjectRef("Gateway", "shop", "front"), "spec.listeners[0]")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resource(type_url: str, name: str, message: Message) -> Resource:
    return make_resource(type_url, name, message.SerializeToString(deterministic=True), (ORIGIN,))


def listener(port: int, *, broken: bool = False) -> Resource:
    name = "gateway/front"
    manager = connection_manager(Manager(stat_prefix="gateway", scope="gw|front|*", gateway=True))
    if broken:
        manager.http_filters[0].typed_config.type_url = "type.googleapis.com/no.such.Filter"
    built = listener_pb2.Listener(name=name, address=socket_address("127.0.0.1", port, ""))
    built.filter_chains.add().filters.add(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )
    return resource(types.LISTENER, name, built)


def scope(body: str) -> Resource:
    built = scoped_route_pb2.ScopedRouteConfiguration(name="gw|front|*")
    built.key.fragments.add(string_key="gw|front|*")
    host = built.route_configuration.virtual_hosts.add(name="v", domains=["*"])
    built.route_configuration.name = built.name
    route = host.routes.add()
    route.match.prefix = "/"
    route.direct_response.status = 200
    route.direct_response.body.inline_string = body
    return resource(types.SCOPE, built.name, built)


def config(folder: Path, *, drain: float = 0.0) -> Config:
    return Config(
        paths=RunPaths(folder / "run"), node=NODE, datapath=False, drain=drain, concurrency=1
    )


@contextlib.asynccontextmanager
async def controller(folder: Path) -> AsyncGenerator[Controller]:
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    started = Controller(NODE, config(folder).paths.controller_ads)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


async def fetch(port: int, path: str = "/") -> str:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as answer,
        ):
            return await answer.text()
    except aiohttp.ClientError:
        return ""


async def serves(port: int, body: str) -> None:
    async def fact() -> bool:
        return await fetch(port) == body

    await until(fact)


@pytest.fixture(autouse=True)
def _no_envoy_left(tmp_path: Path) -> Iterator[None]:
    yield
    for record in tmp_path.glob("run/state/envoy.json"):
        left = msgspec.json.decode(record.read_bytes(), type=ProcessRecord)
        if start_ticks(left.pid) == left.start_ticks:
            os.kill(left.pid, signal.SIGKILL)


async def test_what_the_controller_sends_is_served_and_seen_as_a_flow(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)) as agent:
        source.send(scope("hello"), listener(port))
        await serves(port, "hello")
        await fetch(port, "/cart?token=secret&x=1")

        async def logged() -> bool:
            return any(flow["path"].startswith("/cart") for flow in await agent.flows())

        await until(logged)
        [flow] = [f for f in await agent.flows() if f["path"].startswith("/cart")]
        assert flow["path"] == "/cart?token=…&x=…"
        assert flow["method"] == "GET"
        assert flow["verdict"] == "FORWARDED"
        assert flow["status"] == 200
        status = await agent.get("/v1/status")
        assert status["controller_connected"]
        assert status["envoy_connected"]
        assert status["resources"]["Listener"] == {"intended": 1, "acked": 1, "rejected": 0}


async def test_envoy_s_verdicts_reach_the_controller(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)):
        good = listener(port)
        source.send(scope("hello"), good)
        await serves(port, "hello")
        key = ("Listener", "gateway/front")

        async def accepted() -> bool:
            return key in source.reports and source.reports[key].version == good.version

        await until(accepted)
        bad = listener(port, broken=True)
        source.send(bad)

        async def rejected() -> bool:
            return source.reports[key].rejected == bad.version

        await until(rejected)
        assert "no.such.Filter" in source.reports[key].detail
        assert source.reports[key].version == good.version


async def test_without_a_controller_a_killed_envoy_serves_again(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path)) as agent:
        source.send(scope("hello"), listener(port))
        await serves(port, "hello")
        pid = (await agent.get("/v1/status"))["envoy"]["pid"]
    async with running_agent(config(tmp_path, drain=0.1)) as agent:
        status = await agent.get("/v1/status")
        assert status["envoy"]["pid"] == pid
        assert status["envoy"]["adopted"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: _other_envoy(agent, pid))
        await serves(port, "hello")


async def _other_envoy(agent: AgentClient, pid: int) -> bool:
    return (await agent.get("/v1/status"))["envoy"]["pid"] not in {None, pid}


async def test_a_restart_of_the_agent_fails_no_request(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source:
        async with running_agent(config(tmp_path)):
            source.send(scope("hello"), listener(port))
            await serves(port, "hello")
        answers: list[str] = []
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                answers.append(await fetch(port))

        loading = asyncio.create_task(load())
        async with running_agent(config(tmp_path, drain=0.1)) as agent:

            async def connected() -> bool:
                return bool((await agent.get("/v1/status"))["envoy_connected"])

            await until(connected)
            done.set()
            await loading
        assert set(answers) == {"hello"}


async def start_process(folder: Path) -> asyncio.subprocess.Process:
    options = ["--run-dir", str(folder / "run"), "--node", NODE, "--only-gateways"]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock.cli", "agent", *options, "--concurrency", "1"
    )


async def test_a_killed_agent_leaves_envoy_to_the_next(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source:
        agent = await start_process(tmp_path)
        try:
            source.send(scope("hello"), listener(port))
            await serves(port, "hello")
            agent.kill()
            await agent.wait()
            assert await fetch(port) == "hello"
        finally:
            if agent.returncode is None:
                agent.kill()
        async with running_agent(config(tmp_path, drain=0.1)) as successor:

            async def runs() -> bool:
                return bool((await successor.get("/v1/status"))["envoy"]["state"] == "running")

            await until(runs)
            assert (await successor.get("/v1/status"))["envoy"]["adopted"]
            source.send(scope("hello again"))
            await serves(port, "hello again")


async def test_a_terminated_agent_ends_well_and_envoy_goes_on(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source:
        agent = await start_process(tmp_path)
        source.send(scope("hello"), listener(port))
        await serves(port, "hello")
        agent.terminate()
        assert await agent.wait() == 0
        assert await fetch(port) == "hello"


async def test_a_refused_listener_is_served_as_it_was_after_envoy_is_killed(
    tmp_path: Path,
) -> None:
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)) as agent:
        source.send(scope("hello"), listener(port))
        await serves(port, "hello")
        source.send(listener(port, broken=True))

        async def refused() -> bool:
            found = (await agent.get("/v1/snapshot?type=Listener"))["resources"]
            return bool(found[0]["rejected"])

        await until(refused)
        pid = (await agent.get("/v1/status"))["envoy"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await serves(port, "hello")
        [state] = (await agent.get("/v1/snapshot?type=Listener"))["resources"]
        assert "no.such.Filter" in state["rejected"]
        assert state["origins"] == ["Gateway shop/front spec.listeners[0]"]
        key = ("Listener", "gateway/front")

        async def told() -> bool:
            said = source.reports.get(key)
            return said is not None and said.rejected == state["intended"]

        await until(told)


async def test_a_port_that_is_free_again_is_a_listener_s_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_ads, "RETRY_SECONDS", 0.2)
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)):

        async def refused() -> bool:
            report = source.reports.get(("Listener", "gateway/front"))
            return report is not None and "cannot bind" in report.detail

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            source.send(scope("hello"), listener(port))
            await until(refused)
        await serves(port, "hello")

        async def in_force() -> bool:
            report = source.reports["Listener", "gateway/front"]
            return bool(report.version) and not report.detail

        await until(in_force)


async def test_what_the_controller_takes_back_is_gone(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)):
        source.send(scope("hello"), listener(port))
        await serves(port, "hello")
        source.send(removed=(ResourceName(types.LISTENER, "gateway/front"),))
        await serves(port, "")


async def test_only_reading_requests_reach_envoy_s_admin(tmp_path: Path) -> None:
    async with controller(tmp_path) as source, running_agent(config(tmp_path, drain=0.1)) as agent:
        source.send(scope("hello"))
        assert (await _when_ready(agent, "/v1/envoy/server_info"))["state"]
        assert (await agent.call("GET", "/v1/envoy/quitquitquit"))[0] == 404
        assert (await agent.call("POST", "/v1/envoy/server_info"))[0] == 405


async def test_a_pod_is_refused_where_nothing_could_police_it(tmp_path: Path) -> None:
    pod = {"uid": "u1", "namespace": "shop", "name": "p", "netns": "netns/u1", "addresses": []}
    async with running_agent(config(tmp_path, drain=0.1)) as agent:
        status, body = await agent.call("PUT", "/v1/pods/u1", pod)
        assert status == 400
        assert "gateways" in body["error"]


async def _when_ready(agent: AgentClient, path: str) -> dict[str, object]:
    async def answers() -> bool:
        try:
            return (await agent.call("GET", path))[0] == 200
        except ValueError:
            return False

    await until(answers)
    body: dict[str, object] = await agent.get(path)
    return body
