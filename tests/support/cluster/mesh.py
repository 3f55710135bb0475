"""A cluster with Penstock on it, whose way to the API server a test can spoil."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from pathlib import Path

import msgspec

from penstock.bpf.syscalls import enter_netns
from support.api_gate import ApiGate
from support.cluster.cluster import Cluster, Facts
from support.cluster.install import NAMESPACE, install, install_crds, values
from support.cluster.plan import API_HOST, netns_path

GATE_PORT = 6444
_DUMP = """
import asyncio, pathlib
from penstock.agent.admin import EnvoyAdmin
envoy = EnvoyAdmin(pathlib.Path("/run/penstock/envoy-admin.sock"))
print(asyncio.run(envoy.get("config_dump")).body.decode())
"""


class Mesh:
    """Penstock as helm installed it; `gate` is between it and the API server."""

    def __init__(self, cluster: Cluster, gate: ApiGate) -> None:
        self.cluster, self.gate = cluster, gate

    def pods(self, part: str) -> list[str]:
        """Return the names of the pods of controller, agent or envoy, sorted."""
        label = f"app.kubernetes.io/name=penstock-{part}"
        items = self.cluster.get("-n", NAMESPACE, "pods", "-l", label)["items"]
        return sorted(one["metadata"]["name"] for one in items)

    def pod_on(self, part: str, node: str) -> str:
        """Return the pod of agent or envoy that runs on *node*."""
        label = f"app.kubernetes.io/name=penstock-{part}"
        field = f"spec.nodeName={node}"
        items = self.cluster.get("-n", NAMESPACE, "pods", "-l", label, "--field-selector", field)[
            "items"
        ]
        (found,) = [one for one in items if not one["metadata"].get("deletionTimestamp")]
        return str(found["metadata"]["name"])

    def run_in(self, pod: str, *words: str) -> str:
        """Return what a command of Penstock prints in one of its pods."""
        return self.cluster.kubectl("-n", NAMESPACE, "exec", pod, "--", "penstock", *words)

    def envoy_dump(self, node: str) -> str:
        """Return all that the Envoy of a node says that it has: /config_dump, JSON."""
        agent = self.pod_on("agent", node)
        words = ("exec", agent, "--", "python3", "-c", _DUMP)
        return self.cluster.kubectl("-n", NAMESPACE, *words)


@contextlib.contextmanager
def mesh_on(cluster: Cluster) -> Generator[Mesh]:
    """Install Penstock on *cluster* with a gate between it and the API server."""
    with _gate(cluster) as gate:
        install_crds(cluster)
        install(cluster, values(api_port=GATE_PORT))
        yield Mesh(cluster, gate)


@contextlib.contextmanager
def _gate(cluster: Cluster) -> Generator[ApiGate]:
    keys = cluster.keys
    facts = msgspec.json.decode((cluster.state / "facts.json").read_bytes(), type=Facts)
    with (
        _listening_in(cluster.plan.control_netns, API_HOST, GATE_PORT) as listening,
        ApiGate(
            listening,
            f"https://127.0.0.1:{facts.port}",
            authority=keys.folder / "ca.crt",
            certificate=keys.folder / "apiserver.crt",
            key=keys.folder / "apiserver.key",
        ) as gate,
    ):
        yield gate


def _listening_in(netns: str, address: str, port: int) -> socket.socket:
    """Return a socket that listens in another network namespace than ours."""
    made: list[socket.socket] = []

    def listen() -> None:
        with Path(netns_path(netns)).open("rb") as there:
            enter_netns(there.fileno())
        made.append(socket.create_server((address, port), backlog=512))

    thread = threading.Thread(target=listen)  # it ends there, so nothing else is moved
    thread.start()
    thread.join()
    return made[0]
