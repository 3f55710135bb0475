"""The CNI plugin as a runtime runs it, against a socket of the test and the agent's own API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from ociimages.recipes import CHECKOUT, RecipeError, build_plugin
from penstock.agent.admin import EnvoyAdmin
from penstock.agent.api import AgentApi
from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import FlowLog
from penstock.agent.pods import Pods
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import make_resource
from penstock.xds.snapshot import Delta
from support.fake_kernel import FakeKernel
from support.pod_listeners import FakeListeners

UID = "0a1b2c3d-1111-2222-3333-444455556666"
RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "sandbox": "/var/run/netns/x"}],
    "ips": [{"address": "10.244.1.5/32", "interface": 0}, {"address": "fd00::5/128"}],
    "dns": {},
}


@pytest.fixture(scope="session")
def program() -> Path:
    cache = Path(os.environ.get("PENSTOCK_CACHE") or Path.home() / ".cache" / "penstock")
    try:
        return build_plugin(CHECKOUT / "node-proxy" / "cni", cache / "cni")
    except RecipeError as error:
        pytest.skip(str(error))


class Runtime:
    """Runs the plugin as containerd does."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.socket = folder / "agent.sock"
        self.netns = folder / "run" / "netns" / "cni-1"
        self.netns.parent.mkdir(parents=True)
        self.netns.touch()
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "penstock-cni",
            "socket": str(self.socket),
            "timeout": 0.3,
            "unpolicedNamespaces": ["penstock-system"],
            "prevResult": RESULT,
        }
        self.args = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": "shop",
            "K8S_POD_NAME": "orders-1",
            "K8S_POD_INFRA_CONTAINER_ID": "abc",
            "K8S_POD_UID": UID,
        }

    async def run(self, command: str, **changes: Any) -> tuple[int, Any]:
        """Return exit status and what is on standard output, as JSON; None if that is empty."""
        config = {name: one for name, one in {**self.config, **changes}.items() if one is not None}
        process = await asyncio.create_subprocess_exec(
            self.program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": "abc",
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": str(self.netns),
                "CNI_ARGS": ";".join(f"{key}={value}" for key, value in self.args.items()),
            },
        )
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(config).encode()), 60)
        assert process.returncode is not None
        return process.returncode, json.loads(output) if output else None


@pytest.fixture
def runtime(program: Path, tmp_path: Path) -> Runtime:
    return Runtime(program, tmp_path)


class FakeAgent:
    """Notes what it is asked, and answers as told."""

    def __init__(self, status: int = 200, answer: Any = None) -> None:
        self.status, self.answer = status, answer or {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Any] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path, dict(request.query)))
        if body := await request.read():
            self.bodies.append(json.loads(body))
        return web.json_response(self.answer, status=self.status)


@contextlib.asynccontextmanager
async def serving(socket: Path, agent: FakeAgent) -> AsyncGenerator[FakeAgent]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", agent.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield agent
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("asked", ["0.4.0", "1.0.0", "1.1.0", "9.9.9"])
async def test_version_answers_in_a_version_that_was_asked_for(
    runtime: Runtime, asked: str
) -> None:
    status, answer = await runtime.run("VERSION", cniVersion=asked)
    assert status == 0
    assert answer["cniVersion"] == (asked if asked != "9.9.9" else "1.1.0")
    assert {"0.4.0", "1.0.0", "1.1.0"} <= set(answer["supportedVersions"])


async def test_add_registers_the_pod_and_passes_the_result_on_unchanged(runtime: Runtime) -> None:
    async with serving(runtime.socket, FakeAgent()) as agent:
        status, answer = await runtime.run("ADD")
    assert (status, answer) == (0, RESULT)
    ((method, path, query),) = agent.requests
    assert (method, path) == ("PUT", f"/v1/pods/{UID}")
    assert 0 < float(query["timeout"]) <= 0.3
    assert agent.bodies == [
        {
            "uid": UID,
            "namespace": "shop",
            "name": "orders-1",
            "netns": str(runtime.netns),
            "addresses": ["10.244.1.5", "fd00::5"],
        }
    ]


async def test_the_path_of_the_namespace_is_told_without_links(runtime: Runtime) -> None:
    """/var/run is a link on nodes and may be none where the agent looks."""
    real = runtime.netns
    link = real.parents[2] / "var-run"
    link.symlink_to(real.parents[1])
    runtime.netns = link / "netns" / "cni-1"
    async with serving(runtime.socket, FakeAgent()) as agent:
        await runtime.run("ADD")
    assert agent.bodies[0]["netns"] == str(real)


async def test_add_fails_with_the_words_of_the_agent(runtime: Runtime) -> None:
    refusal = FakeAgent(504, {"error": "pod is not captured: Envoy is away", "reason": "…"})
    async with serving(runtime.socket, refusal):
        status, answer = await runtime.run("ADD")
    assert status == 1
    assert answer["cniVersion"] == "1.0.0"
    assert answer["code"] == 11
    assert "shop/orders-1" in answer["msg"]
    assert "Envoy is away" in answer["details"]


async def test_add_without_an_agent_fails_and_says_where_to_look(runtime: Runtime) -> None:
    status, answer = await runtime.run("ADD")
    assert (status, answer["code"]) == (1, 11)
    assert "penstock-agent" in answer["details"]


async def test_add_waits_for_an_agent_that_is_being_replaced(runtime: Runtime) -> None:
    adding = asyncio.create_task(runtime.run("ADD", timeout=30.0))
    await asyncio.sleep(0.05)
    async with serving(runtime.socket, FakeAgent()):
        assert await adding == (0, RESULT)


async def test_pods_that_are_not_policed_come_up_without_an_agent(runtime: Runtime) -> None:
    runtime.args["K8S_POD_NAMESPACE"] = "penstock-system"
    assert await runtime.run("ADD") == (0, RESULT)
    assert await runtime.run("CHECK") == (0, None)


async def test_add_needs_a_plugin_before_it(runtime: Runtime) -> None:
    status, answer = await runtime.run("ADD", prevResult=None)
    assert (status, answer["code"]) == (1, 7)


async def test_add_needs_the_uid_of_the_pod(runtime: Runtime) -> None:
    del runtime.args["K8S_POD_UID"]
    status, answer = await runtime.run("ADD")
    assert (status, answer["code"]) == (1, 4)


async def test_an_unknown_version_is_an_error_of_its_own(runtime: Runtime) -> None:
    status, answer = await runtime.run("ADD", cniVersion="2.0.0")
    assert (status, answer["code"]) == (1, 1)


async def test_an_unknown_command_is_an_error(runtime: Runtime) -> None:
    status, answer = await runtime.run("JUMP")
    assert (status, answer["code"]) == (1, 4)


async def test_a_configuration_without_the_socket_is_an_error(runtime: Runtime) -> None:
    status, answer = await runtime.run("ADD", socket=None)
    assert (status, answer["code"]) == (1, 7)


@pytest.mark.parametrize("status", [200, 404, 500])
async def test_del_never_fails(runtime: Runtime, status: int) -> None:
    async with serving(runtime.socket, FakeAgent(status)) as agent:
        assert await runtime.run("DEL", prevResult=None) == (0, None)
    assert agent.requests == [("DELETE", f"/v1/pods/{UID}", {"netns": str(runtime.netns)})]


async def test_del_does_not_need_an_agent_nor_a_pod(runtime: Runtime) -> None:
    assert await runtime.run("DEL") == (0, None)
    runtime.args.clear()
    assert await runtime.run("DEL") == (0, None)


async def test_check_tells_what_the_agent_says(runtime: Runtime) -> None:
    async with serving(runtime.socket, FakeAgent()) as agent:
        assert await runtime.run("CHECK") == (0, None)
    assert agent.requests == [("GET", f"/v1/pods/{UID}", {})]
    async with serving(runtime.socket, FakeAgent(404, {"error": "not registered"})):
        status, answer = await runtime.run("CHECK")
    assert (status, answer["details"]) == (1, "not registered")


async def test_status_is_good_with_an_agent(runtime: Runtime) -> None:
    async with serving(runtime.socket, FakeAgent()):
        assert await runtime.run("STATUS", cniVersion="1.1.0", prevResult=None) == (0, None)


async def test_status_without_an_agent_says_that_no_pod_can_start(runtime: Runtime) -> None:
    status, answer = await runtime.run("STATUS", cniVersion="1.1.0")
    assert (status, answer["code"]) == (1, 50)


async def test_collecting_garbage_is_the_agents_own_business(runtime: Runtime) -> None:
    attachments: dict[str, list[str]] = {"cni.dev/valid-attachments": []}
    assert await runtime.run("GC", cniVersion="1.1.0", **attachments) == (0, None)


class World:
    """The agent's own API over a kernel and listeners in memory."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.kernel, self.listeners = FakeKernel(), FakeListeners()
        self.kernel.cookies[str(runtime.netns)] = 7
        self.datapath = NodeDatapath(self.kernel)
        self.pods = Pods(folder / "pods.json", self.datapath, self.kernel, self.listeners)
        self.api = AgentApi(
            view=_NoView(), pods=self.pods, admin=EnvoyAdmin(folder / "none"), flows=FlowLog()
        )

    def know(self) -> None:
        """Send what the controller says of a Pod that has no address yet."""
        workload = node_pb2.Workload(uid=UID, identity=5).SerializeToString()
        policy = node_pb2.Policy(identity=5).SerializeToString()
        known = (
            make_resource(types.WORKLOAD, UID, workload),
            make_resource(types.POLICY, "5", policy),
        )
        self.datapath.apply(Delta(known))


class _NoView:
    def status(self) -> object:
        return {}

    def snapshot(self, kind: str) -> object:
        return {"kind": kind}


async def test_the_agent_captures_what_the_plugin_tells(runtime: Runtime, tmp_path: Path) -> None:
    world = World(runtime, tmp_path)
    await world.api.start(runtime.socket)
    try:
        status, answer = await runtime.run("ADD")
        assert status == 1
        assert "Workload" in answer["details"]
        world.know()
        assert await runtime.run("ADD") == (0, RESULT)
        assert world.kernel.identities["10.244.1.5"] == 5
        assert await runtime.run("ADD") == (0, RESULT), "twice equals once"
        assert await runtime.run("CHECK") == (0, None)
        assert await runtime.run("STATUS") == (0, None)
        assert await runtime.run("DEL") == (0, None)
        assert world.pods.registered() == {}
        assert await runtime.run("DEL") == (0, None)
        status, _ = await runtime.run("CHECK")
        assert status == 1
    finally:
        await world.api.stop()
    assert msgspec.json.decode((tmp_path / "pods.json").read_bytes()) == []
