"""What happens to the API server, and to Penstock, is nothing that requests notice.

Requests run from pods on both nodes (by the kernel's Services, and by Envoy under a policy) and
from outside through a Gateway; each test spoils something and looks what became of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from support.api_gate import Refused
from support.cluster.addresses import gateway_address
from support.cluster.control_plane import NODE_IS_MISSED
from support.cluster.errors import ClusterError
from support.cluster.install import install, values
from support.cluster.mesh import GATE_PORT, Mesh
from support.cluster.traffic import (
    Traffic,
    ask_outside,
    asking_pod,
    echo_pod,
    echo_service,
    eventually,
    traffic_of,
    traffic_outside,
)

NS = "faults"
NODES = ("n1", "n2")
OUTAGE = 300.0 if os.environ.get("PENSTOCK_SOAK") else 30.0
"""Seconds for which the API server is away in the longest outage."""
STALL = 180.0
"""Seconds after which a watch is doubted that brings not even bookmarks, and some more."""
HOST = "faults.test"
_COMPACT = """
import json, urllib.request

def ask(path, **body):
    data = json.dumps(body).encode()
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:2379{path}", data))

newest = ask("/v3/kv/range", key="AA==", limit="1")["header"]["revision"]
ask("/v3/kv/compaction", revision=newest, physical=True)
"""
OF_SELECTORS = "endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io"
_SIGNAL = """
import os, pathlib, sys
for one in pathlib.Path("/proc").iterdir():
    try:
        if one.name.isdigit() and (one / "comm").read_text().strip() == "kubelet":
            os.kill(int(one.name), int(sys.argv[1]))
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        continue
"""


def route(name: str, host: str, path: str = "/") -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": NS},
        "spec": {
            "parentRefs": [{"name": "way-in"}],
            "hostnames": [host],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                    "backendRefs": [{"name": "policed", "port": 80}],
                }
            ],
        },
    }


GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "way-in", "namespace": NS},
    "spec": {
        "gatewayClassName": "penstock",
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
    },
}
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "policed", "namespace": NS},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "policed"}},
        "ingress": [
            {
                "fromEndpoints": [{}],
                "toPorts": [
                    {
                        "ports": [{"port": "8080", "protocol": "TCP"}],
                        "rules": {"http": [{"method": "GET"}]},
                    }
                ],
            },
            {"fromEntities": ["ingress"]},
        ],
    },
}


class Scene:
    """The cluster, and requests on it that never stop."""

    def __init__(self, mesh: Mesh, traffic: Mapping[str, Traffic], address: str) -> None:
        self.mesh, self.traffic, self.address = mesh, traffic, address

    def wait_for_more(self, count: int = 50) -> None:
        """Return when every way was used *count* times more."""
        for one in self.traffic.values():
            one.wait_for_more(count)

    def failures(self) -> dict[str, Any]:
        """Return what failed, by who asked."""
        found = {name: one.bad() for name, one in self.traffic.items()}
        return {name: bad for name, bad in found.items() if bad}

    def change_arrives(self, seconds: float = 90.0) -> None:
        """Make a new route and wait until it is served."""
        host = f"{secrets.token_hex(4)}.test"
        assert eventually(lambda: self._applied(route("fresh", host)), 90), "not applied"
        url = f"http://{self.address}/"
        assert eventually(
            lambda: ask_outside(self.mesh.cluster, "GET", url, host).status == 200, seconds
        ), f"{host} is not served: {ask_outside(self.mesh.cluster, 'GET', url, host)}"

    def _applied(self, raw: dict[str, Any]) -> bool:
        try:
            self.mesh.cluster.apply(raw)
        except ClusterError:  # the API server is not back yet
            return False
        return True


@pytest.fixture(scope="module")
def scene(mesh: Mesh) -> Generator[Scene]:
    """Start servers and askers on both nodes."""
    cluster = mesh.cluster
    cluster.make_namespace(NS)
    servers = [
        echo_pod(f"{app}-{node}", NS, node, {"app": app})
        for app in ("policed", "plain") for node in NODES
    ]  # fmt: skip
    cluster.apply(GATEWAY, POLICY, echo_service("policed", NS), echo_service("plain", NS))
    cluster.apply(*servers, route("way", HOST))
    wait_ready(mesh)
    targets = {"policed": "http://policed/", "plain": "http://plain/"}
    cluster.apply(*(asking_pod(f"asker-{node}", NS, node, targets) for node in NODES))
    wait_ready(mesh)
    address = gateway_address(mesh, NS, "way-in")
    url = f"http://{address}/"
    assert eventually(lambda: ask_outside(cluster, "GET", url, HOST).status == 200)
    with traffic_outside(cluster, {"gateway": f"{url}#{HOST}"}) as outside:
        traffic = {f"asker-{node}": traffic_of(cluster, NS, f"asker-{node}") for node in NODES}
        yield Scene(mesh, {**traffic, "outside": outside}, address)
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def wait_ready(mesh: Mesh) -> None:
    mesh.cluster.kubectl(
        "-n", NS, "wait", "--for=condition=Ready", "pods", "--all", "--timeout=90s"
    )


@pytest.fixture
def quiet(scene: Scene) -> Generator[Scene]:
    """Yield the scene, and look afterwards that no request has failed, and that changes arrive."""
    before = scene.failures()
    scene.wait_for_more()
    yield scene
    gate = scene.mesh.gate
    gate.refuse(Refused.NONE)
    gate.disorder(on=False)
    scene.change_arrives()
    scene.wait_for_more()
    assert scene.failures() == before


def restart_api_server(scene: Scene, *, after: float = 0.0) -> None:
    cluster = scene.mesh.cluster
    cluster.stop_program("kube-apiserver")
    if after:
        wait_under_load(scene, after)
    cluster.start_program("kube-apiserver")


def wait_under_load(scene: Scene, seconds: float) -> None:
    """Let requests go on for *seconds*; the outage itself is what is tested."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scene.wait_for_more()


def compact(scene: Scene) -> None:
    """Throw away etcd's history before the newest revision."""
    words = scene.mesh.cluster.in_control_netns(sys.executable, "-c", _COMPACT)
    subprocess.run(words, check=True, capture_output=True)


@pytest.mark.parametrize("seconds", [0.0, OUTAGE])
def test_api_server_away(quiet: Scene, seconds: float) -> None:
    restart_api_server(quiet, after=seconds)


def test_api_server_with_an_older_etcd(quiet: Scene) -> None:
    cluster = quiet.mesh.cluster
    data = cluster.state / "etcd"
    quiet.change_arrives()
    for name in ("kube-apiserver", "etcd"):
        cluster.stop_program(name)
    older = cluster.state / "etcd-older"
    shutil.copytree(data, older)
    for name in ("etcd", "kube-apiserver"):
        cluster.start_program(name)
    quiet.change_arrives()
    for name in ("kube-apiserver", "etcd"):
        cluster.stop_program(name)
    shutil.rmtree(data)
    older.rename(data)
    for name in ("etcd", "kube-apiserver"):
        cluster.start_program(name)
    quiet.wait_for_more()


def test_history_that_was_compacted(quiet: Scene) -> None:
    quiet.mesh.gate.refuse(Refused.WATCHES)
    quiet.mesh.gate.cut()
    compact(quiet)
    restart_api_server(quiet)


def test_lists_answered_with_500(quiet: Scene) -> None:
    gate = quiet.mesh.gate
    gate.refuse(Refused.READS)
    asked = gate.asked()
    gate.cut()
    assert eventually(lambda: gate.asked() > asked + 10)
    quiet.wait_for_more()


def test_watches_that_say_nothing_any_more(quiet: Scene) -> None:
    quiet.mesh.gate.stall()
    quiet.change_arrives(STALL)


def test_events_twice_and_in_the_wrong_order(quiet: Scene) -> None:
    quiet.mesh.gate.disorder(on=True)
    for _ in range(3):
        quiet.change_arrives()


@contextlib.contextmanager
def no_word_of_kubelets(mesh: Mesh) -> Generator[None]:
    """Let no kubelet say anything; all that runs goes on.

    Their last words are of one moment, as far as the node controller can know after an outage.
    """

    def tell(number: signal.Signals) -> None:
        for node in NODES:
            words = mesh.cluster.in_node(node, sys.executable, "-c", _SIGNAL, str(int(number)))
            subprocess.run(words, check=True, capture_output=True)

    try:
        tell(signal.SIGSTOP)
        say_last_words(mesh)
        yield
    finally:
        tell(signal.SIGCONT)


def say_last_words(mesh: Mesh) -> None:
    """Renew the Leases of all nodes together, as their kubelets do one by one each 10 s."""
    leases = mesh.cluster.get("leases", "-n", "kube-node-lease")
    assert {one["metadata"]["name"] for one in leases["items"]} == set(NODES)
    for one in leases["items"]:
        one["spec"]["renewTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    mesh.cluster.kubectl("replace", "-f", "-", text=json.dumps(leases))


def ready_endpoints(mesh: Mesh) -> int:
    """Return how many endpoints of Services are ready in the whole cluster."""
    items = mesh.cluster.get("endpointslices", "-A", "-l", OF_SELECTORS)["items"]
    each = (one for item in items for one in item["endpoints"] or ())
    return sum(one["conditions"]["ready"] for one in each)


def test_all_nodes_are_missed_and_come_back(quiet: Scene) -> None:
    """As when an API server was away for longer than the node controller waits for a node."""
    mesh = quiet.mesh
    before = ready_endpoints(mesh)
    with no_word_of_kubelets(mesh):
        assert eventually(lambda: ready_endpoints(mesh) == 0, NODE_IS_MISSED)
        quiet.wait_for_more(200)
    assert eventually(lambda: ready_endpoints(mesh) >= before > 0, NODE_IS_MISSED)


def kill(part: str) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        for pod in scene.mesh.pods(part):
            words = ("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
            scene.mesh.cluster.kubectl("-n", "penstock-system", *words)

    return do


def upgrade(scene: Scene) -> None:
    install(scene.mesh.cluster, values(api_port=GATE_PORT, logLevel="warning"))


@pytest.mark.parametrize(
    "harm", [kill("controller"), kill("agent"), upgrade], ids=["controllers", "agents", "upgrade"]
)
def test_penstock_is_killed_or_replaced(quiet: Scene, harm: Callable[[Scene], None]) -> None:
    harm(quiet)
    for what in ("deployment/penstock-controller", "daemonset/penstock-agent"):
        status = ("rollout", "status", what, "--timeout=120s")
        quiet.mesh.cluster.kubectl("-n", "penstock-system", *status)
