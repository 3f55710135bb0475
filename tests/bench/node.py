"""One node with pods, the agent and its Envoy, and plain Envoys to compare with.

    client, quiet  captured pods that send; the egress listener of `quiet` writes no access log
    open           captured, no policy
    policed        captured, HTTP policy: the client and quiet may GET below /bench
    bare-client, bare-server  network namespaces without any program

Resources come from the compiler. Two are changed afterwards: quiet's egress listener, and the
cluster of the Service `twice`, which gets neither mark nor upstream filters, so that the server's
ingress listener judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import Any

from bench.processes import answer_at, envoy_command, running, write_json
from penstock.agent.config import Config
from penstock.bpf.datapath import Datapath
from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.meta.paths import RunPaths
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, make_resource
from support import objects
from support.agent_rig import AgentClient, Controller, running_agent
from support.real_envoy import eventually
from support.topology import NODE_IPV4, Place, Topology

NODE = "n1"
PORT = 8080
CAPTURED = ("client", "quiet", "open", "policed")
BARE = ("bare-client", "bare-server")
BODY = "x" * 1024
HOPS = {"one": 10001, "two": 10002}
"""Ports of the plain Envoy in the node: the second goes to the first."""
SERVICES = {"balanced": "open", "routed": "open", "fused": "policed", "twice": "policed"}
"""Service to the pod behind it; `balanced` has no route: the kernel balances."""
VIPS = {name: f"10.96.0.{number}" for number, name in enumerate(SERVICES, 11)}
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


class Node:
    """What runs, and how to run something in it."""

    def __init__(self, topology: Topology, agent: AgentClient, envoy: int, plain: int) -> None:
        self.topology, self._agent = topology, agent
        self.envoy, self.plain = envoy, plain
        """Process ids of the agent's Envoy and of the plain one."""

    def address(self, pod: str) -> str:
        return str(self.topology.pods[pod].ipv4)

    def inside(self, pod: str, *command: str) -> list[str]:
        """Return *command* as a process of *pod*."""
        return inside(self.topology, pod, command)

    async def passes(self) -> int:
        """Return how many requests the agent's Envoy took on captured connections so far."""
        found = await self.stats("http.(egress|ingress).downstream_rq_total")
        return sum(found.values())

    async def stats(self, pattern: str) -> dict[str, int]:
        """Return the counters of the agent's Envoy whose names match."""
        found = await self._agent.get(f"/v1/envoy/stats?filter={pattern}&format=json")
        return {stat["name"]: stat["value"] for stat in found["stats"] if "value" in stat}


def inside(topology: Topology, place: str, command: Sequence[str]) -> list[str]:
    """Return *command* in the network namespace of *place*, in a pod's cgroup if it has one."""
    captured = place in CAPTURED
    cgroup = topology.cgroup / (f"pods/{place}" if captured else "other")
    where = topology.node if place == "node" else topology.pods[place]
    enter = 'cgroup=$0; netns=$1; shift; echo $$ > "$cgroup/cgroup.procs" && exec nsenter'
    shell = ["sh", "-c", f'{enter} --net="$netns" "$@"', str(cgroup), str(where.netns)]
    return [*shell, *command]


def pin(pid: int, core: int) -> None:
    """Let all threads of a process run on *core* only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


@contextlib.asynccontextmanager
async def running_node(folder: Path, core: int) -> AsyncGenerator[Node]:
    """Run everything; Envoys and applications are bound to *core*."""
    with Topology((*CAPTURED, *BARE)) as topology:
        paths = _run_folder(topology, folder / "run")
        controller = Controller(NODE, paths.controller_ads)
        await controller.start()
        try:
            async with running_agent(_config(topology, paths)) as agent:
                controller.send(*resources(topology))
                await _capture(topology, agent)
                with _processes(topology, folder, core) as plain:
                    envoy = (await agent.get("/v1/status"))["envoy"]["pid"]
                    pin(envoy, core)
                    await _answering(topology)
                    yield Node(topology, agent, envoy, plain)
        finally:
            await controller.stop()
            Datapath.remove(paths.bpffs)
            for pid in (topology.envoy_cgroup / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def _run_folder(topology: Topology, root: Path) -> RunPaths:
    paths = RunPaths(root)
    paths.netns.mkdir(parents=True)
    paths.root.chmod(0o700)
    for name in CAPTURED:
        (paths.netns / name).symlink_to(topology.pods[name].netns)
    return paths


def _config(topology: Topology, paths: RunPaths) -> Config:
    return Config(
        paths=paths,
        node=NODE,
        netns=topology.node.netns,
        cgroup_root=topology.cgroup,
        drain=0.1,
        concurrency=1,
    )


async def _capture(topology: Topology, agent: AgentClient) -> None:
    for name in CAPTURED:
        request = {
            "uid": name,
            "namespace": "shop",
            "name": name,
            "netns": f"netns/{name}",
            "cgroup": str(topology.pods_cgroup / name),
            "addresses": [str(topology.pods[name].ipv4)],
        }
        status, body = await agent.call("PUT", f"/v1/pods/{name}", request)
        assert status == 200, body


async def _answering(topology: Topology) -> None:
    """Wait until all that was started takes connections."""
    server = str(topology.pods["bare-server"].ipv4)
    places = [
        ("bare-client", server, PORT),
        *(("bare-client", str(NODE_IPV4), p) for p in HOPS.values()),
    ]
    places += [("client", str(topology.pods[name].ipv4), PORT) for name in ("open", "policed")]
    for source, address, port in places:
        await eventually(functools.partial(_connects, topology, source, address, port))


def _connects(topology: Topology, source: str, address: str, port: int) -> bool:
    cgroup = "pod" if source in CAPTURED else "other"
    with topology.actor(source, cgroup).socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        return made.connect_ex((address, port)) == 0


@contextlib.contextmanager
def _processes(topology: Topology, folder: Path, core: int) -> Generator[int]:
    """Run the applications and the plain Envoy; yield the process id of that."""
    with contextlib.ExitStack() as stack:

        def start(place: str, config: dict[str, Any]) -> int:
            file = write_json(folder / f"{place}.json", config)
            command = inside(topology, place, [str(part) for part in envoy_command(file)])
            bound = ["taskset", "-c", str(core), *command]
            return stack.enter_context(running(bound, folder / f"{place}.log")).pid

        for place in ("open", "policed", "bare-server"):
            answer = answer_at(str(topology.pods[place].ipv4), PORT, "", BODY)
            start(place, {"static_resources": {"listeners": [answer]}})
        yield start("node", _plain_hops(topology.pods["bare-server"]))


def _plain_hops(server: Place) -> dict[str, Any]:
    """Return a bootstrap with two listeners: to *server*, and to the first."""
    node = str(NODE_IPV4)
    targets = {"one": (str(server.ipv4), PORT), "two": (node, HOPS["one"])}
    listeners = [_plain_listener(node, port, name) for name, port in HOPS.items()]
    clusters = [_plain_cluster(name, *target) for name, target in targets.items()]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _plain_cluster(name: str, address: str, port: int) -> dict[str, Any]:
    place = {"address": {"socket_address": {"address": address, "port_value": port}}}
    endpoints = [{"lb_endpoints": [{"endpoint": place}]}]
    assignment = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "load_assignment": assignment}


def _plain_listener(address: str, port: int, cluster: str) -> dict[str, Any]:
    """Return `answer_at`'s listener with the hardening of ours, and a route to *cluster*."""
    made = answer_at(address, port, "", "")
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    manager |= {"use_remote_address": True, "normalize_path": True}
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    ]
    return made


def resources(topology: Topology) -> list[Resource]:
    """Return what the controller sends."""
    compiler = Compiler()
    compiler.apply(objects.added(_objects(topology)))
    assert not compiler.failures, compiler.failures
    return [_changed(resource) for resource in compiler.resources(NODE)]


def _objects(topology: Topology) -> Generator[Object | Broken]:
    for name in CAPTURED:
        yield _pod(name, str(topology.pods[name].ipv4))
    for name, pod in SERVICES.items():
        yield objects.service(name, VIPS[name])
        yield objects.endpoint_slice(name, [str(topology.pods[pod].ipv4)])
        if name != "balanced":
            parent = objects.on_service(name)
            yield objects.http_route(name, parent=parent, backends=[(name, 1)])
    yield objects.policy(
        "policed",
        {
            "endpointSelector": {"matchLabels": {"app": "policed"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": name}}],
                    "toPorts": [
                        {
                            "ports": [{"port": str(PORT), "protocol": "TCP"}],
                            "rules": {"http": [{"method": "GET", "path": "/bench.*"}]},
                        }
                    ],
                }
                for name in ("client", "quiet")
            ],
        },
    )


def _pod(name: str, ip: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "uid": name, "labels": {"app": name},
            },
            "spec": {"nodeName": NODE, "containers": [{"name": "app", "image": "app"}]},
            "status": {"podIPs": [{"ip": ip}], "phase": "Running"},
        }
    )  # fmt: skip


def _changed(resource: Resource) -> Resource:
    if (resource.type_url, resource.name) == (types.CLUSTER, "mesh|shop/twice/80"):
        cluster = cluster_pb2.Cluster.FromString(resource.body)
        del cluster.upstream_bind_config.socket_options[:]
        options = options_pb2.HttpProtocolOptions()
        packed = cluster.typed_extension_protocol_options[_HTTP_OPTIONS]
        packed.Unpack(options)
        del options.http_filters[:]
        packed.Pack(options)
        return _replaced(resource, cluster.SerializeToString(deterministic=True))
    if (resource.type_url, resource.name) == (types.LISTENER, "quiet/egress"):
        listener = listener_pb2.Listener.FromString(resource.body)
        manager = hcm_pb2.HttpConnectionManager()
        packed = listener.filter_chains[0].filters[-1].typed_config
        packed.Unpack(manager)
        del manager.access_log[:]
        packed.Pack(manager)
        return _replaced(resource, listener.SerializeToString(deterministic=True))
    return resource


def _replaced(resource: Resource, body: bytes) -> Resource:
    return make_resource(resource.type_url, resource.name, body, resource.origins, resource.needs)


async def output_of(command: Sequence[str]) -> str:
    """Return what *command* prints.

    Raises:
        RuntimeError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {printed.decode()}")
    return printed.decode()
