"""The agent with real Envoy, real programs and pods that are network namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from penstock.agent.config import Config
from penstock.bpf.datapath import Datapath
from penstock.envoy import cluster, listener, rbac, scope
from penstock.envoy.wire import pack
from penstock.ir.policy import Direction, HttpAllow, HttpRule, Verdict
from penstock.meta.names import ObjectRef, Origin
from penstock.meta.paths import RunPaths
from penstock.pb.envoy.config.route.v3 import route_components_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from support.agent_rig import PATIENCE, AgentClient, Controller, running_agent, until
from support.pod_http import answering
from support.topology import Topology, checked_topology

NODE = "node-1"
PODS = ("client", "server", "other")
IDENTITY = {"client": 1001, "server": 1002, "other": 1003}
PORT = 8080
RULE = Origin(ObjectRef("CiliumNetworkPolicy", "shop", "server"), "spec.ingress[0]")
IN, OUT = Direction.INGRESS, Direction.EGRESS
Entry = tuple[Direction, str, int, Verdict]


def resource(type_url: str, name: str, message: Message) -> Resource:
    return make_resource(type_url, name, message.SerializeToString(deterministic=True))


def policy(name: str, *entries: Entry, ingress: Verdict = Verdict.ALLOW) -> Resource:
    """Return the Policy of a pod's identity; outward everything is allowed."""
    made = node_pb2.Policy(identity=IDENTITY[name])
    made.default_ingress = cast("node_pb2.Verdict", int(ingress))
    made.default_egress = cast("node_pb2.Verdict", int(Verdict.ALLOW))
    for direction, peer, port, verdict in entries:
        entry = made.entries.add(direction=cast("node_pb2.Direction", int(direction)), port=port)
        entry.peer, entry.protocol = IDENTITY[peer], 6
        entry.verdict = cast("node_pb2.Verdict", int(verdict))
        entry.origins.add(kind=RULE.object.kind, namespace="shop", name="server", path=RULE.path)
    if ingress is Verdict.DENY:
        made.ingress_enforced_by.add(kind=RULE.object.kind, namespace="shop", name="server")
    return resource(types.POLICY, str(IDENTITY[name]), made)


class Node:
    """A topology, an agent's configuration for it, and what its controller knows."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        self.topology = topology
        self.paths = RunPaths(folder / "run")
        self.paths.netns.mkdir(parents=True)
        self.paths.root.chmod(0o700)
        for name, place in topology.pods.items():
            (self.paths.netns / name).symlink_to(place.netns)
        self.controller = Controller(NODE, self.paths.controller_ads)

    def config(self, *, drain: float = 0.0) -> Config:
        return Config(
            paths=self.paths,
            node=NODE,
            netns=self.topology.node.netns,
            cgroup_root=self.topology.cgroup,
            drain=drain,
            concurrency=1,
        )

    def workload(self, name: str) -> Resource:
        place = self.topology.pods[name]
        made = node_pb2.Workload(uid=name, name=name, namespace="shop", identity=IDENTITY[name])
        made.addresses.extend([str(place.ipv4), str(place.ipv6)])
        return resource(types.WORKLOAD, name, made)

    def listeners(self, name: str) -> tuple[Resource, Resource]:
        built = (
            listener.egress(name, IDENTITY[name], "shop"),
            listener.ingress(name, IDENTITY[name]),
        )
        first, second = (resource(types.LISTENER, made.name, made) for made in built)
        return first, second

    def everything(self, name: str) -> tuple[Resource, ...]:
        return (policy(name), self.workload(name), *self.listeners(name))

    def request(self, name: str) -> dict[str, Any]:
        place = self.topology.pods[name]
        return {
            "uid": name,
            "namespace": "shop",
            "name": name,
            "netns": f"netns/{name}",
            "cgroup": str(self.topology.pods_cgroup / name),
            "addresses": [str(place.ipv4), str(place.ipv6)],
        }

    async def capture(self, agent: AgentClient, *names: str) -> None:
        for name in names:
            status, body = await agent.call("PUT", f"/v1/pods/{name}", self.request(name))
            assert status == 200, body

    def connect(self, source: str, target: str) -> socket.socket:
        """Connect from one pod's process to another pod's port."""
        made = self.topology.actor(source, "pod").socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            made.connect((str(self.topology.pods[target].ipv4), PORT))
        except OSError:
            made.close()
            raise
        return made

    def get(self, source: str, target: str, path: str) -> int:
        """Return the status of one request."""
        with self.connect(source, target) as made:
            made.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            return int(made.recv(4096).split()[1])

    @contextlib.contextmanager
    def serving(self, name: str) -> Generator[None]:
        """Serve HTTP in a pod."""
        listening = self.topology.actor(name, "pod").socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.settimeout(None)
        listening.bind(("0.0.0.0", PORT))
        listening.listen()
        with answering(listening):
            yield


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with checked_topology(PODS) as made:
        yield made


@pytest.fixture
async def node(topology: Topology, tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(topology, tmp_path)
    await made.controller.start()
    try:
        yield made
    finally:
        await made.controller.stop()
        Datapath.remove(made.paths.bpffs)
        left = (topology.envoy_cgroup / "cgroup.procs").read_text().split()
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)


async def test_a_pod_is_captured_when_all_that_polices_it_is_there(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        node.controller.send(node.workload("client"))
        path = "/v1/pods/client"
        status, body = await agent.call("PUT", path + "?timeout=0.5", node.request("client"))
        assert status == 504
        assert "Policy" in body["reason"]
        waiting = asyncio.create_task(agent.call("PUT", path, node.request("client")))
        node.controller.send(policy("client"))
        status, body = await agent.call("PUT", path + "?timeout=0.5", node.request("client"))
        assert status == 504
        assert "listener client/egress" in body["reason"]
        assert not waiting.done()
        node.controller.send(*node.listeners("client"))
        assert (await waiting)[0] == 200
        [pod] = (await agent.get("/v1/status"))["pods"]
        assert pod["identity"] == IDENTITY["client"]


async def test_an_unregistered_pod_is_closed(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        node.controller.send(*node.everything("server"))
        await node.capture(agent, "server")
        with pytest.raises(ConnectionRefusedError):
            node.connect("client", "server")


async def test_a_connection_that_a_new_policy_denies_is_ended(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        for name in PODS:
            node.controller.send(*node.everything(name))
        await node.capture(agent, *PODS)
        with node.serving("server"):
            denied = await asyncio.to_thread(node.connect, "client", "server")
            kept = await asyncio.to_thread(node.connect, "other", "server")
            rule = (IN, "other", PORT, Verdict.ALLOW)
            node.controller.send(policy("server", rule, ingress=Verdict.DENY))
            with denied, pytest.raises(ConnectionError):
                await asyncio.to_thread(denied.recv, 1)
            with kept:
                kept.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert (await asyncio.to_thread(kept.recv, 100)).startswith(b"HTTP/1.0 200")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(node.connect, "client", "server")
            await until(lambda: _denied(agent))
        status = await agent.get("/v1/status")
        assert status["counters"]["connections_ended"] >= 1


async def _denied(agent: AgentClient) -> bool:
    """Return whether the refused connection is a flow that names the policy."""
    return any(
        flow["verdict"] == "DENIED"
        and flow["source"]["pod"] == "client"
        and flow["destination"].get("pod") == "server"
        and flow["policies"] == ["CiliumNetworkPolicy shop/server"]
        for flow in await agent.flows()
    )


def l7(node: Node) -> tuple[Resource, ...]:
    """The server's rules: its clients may GET /public."""
    allow = HttpAllow(
        peers=frozenset({IDENTITY["client"]}),
        rules=(HttpRule(path="/public", method="GET", origin=RULE),),
        origin=RULE,
    )
    client = node.topology.pods["client"]
    addresses = {IDENTITY["client"]: (str(client.ipv4), str(client.ipv6))}
    judged = rbac.rules([rbac.Judgement(name=str(RULE), allow=allow)], rbac.ByAddress(addresses))
    host = route_components_pb2.VirtualHost(name="app", domains=["*"])
    route = host.routes.add()
    route.match.prefix, route.route.cluster = "/", "app"
    key = scope.inbound_key(scope.destination(str(node.topology.pods["server"].ipv4), PORT))
    rules = {listener.RBAC_FILTER: pack(rbac.per_route(judged, IN))}
    app = cluster.application()
    return (
        resource(types.CLUSTER, app.name, app),
        resource(types.SCOPE, key, scope.scope(key, [host], rules)),
    )


async def test_requests_are_judged_and_their_flows_name_the_rule(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        for name in PODS:
            node.controller.send(*node.everything(name))
        await node.capture(agent, *PODS)
        with node.serving("server"):
            open_before = await asyncio.to_thread(node.connect, "client", "server")
            node.controller.send(*l7(node))
            rule = (IN, "client", PORT, Verdict.PROXY)
            node.controller.send(policy("server", rule, ingress=Verdict.DENY))
            with open_before, pytest.raises(ConnectionError):
                await asyncio.to_thread(open_before.recv, 1)
            assert await asyncio.to_thread(node.get, "client", "server", "/public") == 200
            assert await asyncio.to_thread(node.get, "client", "server", "/private") == 403
            await until(lambda: _logged(agent, 403))
        flows = {f["status"]: f for f in await agent.flows() if f.get("status")}
        assert flows[200]["policies"] == [str(RULE)]
        assert flows[200]["verdict"] == "FORWARDED"
        assert flows[403]["policies"] == ["CiliumNetworkPolicy shop/server"]
        assert flows[403]["verdict"] == "DENIED"
        for flow in (flows[200], flows[403]):
            assert flow["source"]["pod"] == "client"
            assert flow["destination"]["pod"] == "server"


async def _logged(agent: AgentClient, status: int) -> bool:
    return any(flow.get("status") == status for flow in await agent.flows())


async def test_nothing_passes_unjudged_while_envoy_is_away(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        rule = (IN, "client", PORT, Verdict.PROXY)
        for name in PODS:
            node.controller.send(*node.everything(name))
        node.controller.send(*l7(node), policy("server", rule, ingress=Verdict.DENY))
        await node.capture(agent, *PODS)
        with node.serving("server"):
            assert await asyncio.to_thread(node.get, "client", "server", "/public") == 200
            pid = (await agent.get("/v1/status"))["envoy"]["pid"]
            os.kill(pid, signal.SIGKILL)
            seen: set[int] = set()
            async with asyncio.timeout(PATIENCE):
                while 200 not in seen:
                    with contextlib.suppress(OSError, IndexError):
                        seen.add(await asyncio.to_thread(node.get, "client", "server", "/public"))
                    with contextlib.suppress(OSError, IndexError):
                        path = "/private"
                        code = await asyncio.to_thread(node.get, "client", "server", path)
                        assert code == 403


async def test_a_restarted_agent_cuts_nothing_and_still_has_its_pods(node: Node) -> None:
    async with running_agent(node.config()) as agent:
        for name in PODS:
            node.controller.send(*node.everything(name))
        await node.capture(agent, *PODS)
    with node.serving("server"):
        kept = await asyncio.to_thread(node.connect, "client", "server")
        async with running_agent(node.config(drain=0.1)) as agent:
            assert len((await agent.get("/v1/status"))["pods"]) == len(PODS)
            await node.capture(agent, *PODS)
            with kept:
                kept.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert (await asyncio.to_thread(kept.recv, 100)).startswith(b"HTTP/1.0 200")


async def test_a_pod_that_ends_leaves_no_socket_in_its_namespace(node: Node) -> None:
    async with running_agent(node.config(drain=0.1)) as agent:
        node.controller.send(*node.everything("other"))
        await node.capture(agent, "other")
        assert (await agent.call("DELETE", "/v1/pods/other"))[0] == 200
        names = (await agent.get("/v1/envoy/listeners?format=json")).get("listener_statuses", [])
        assert names == []
        assert (await agent.call("DELETE", "/v1/pods/other"))[0] == 404
