"""What nodes promise to pods: the first packet is judged, and running pods need no agent."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from typing import Any

import pytest

from support.cluster.images import ECHO_IMAGE
from support.cluster.install import NAMESPACE
from support.cluster.mesh import Mesh
from support.cluster.traffic import (
    Answer,
    ask_from,
    asking_pod,
    echo_pod,
    echo_service,
    eventually,
    run_pods,
    traffic_of,
)

NODES = ("n1", "n2")
_HASTY = """
import collections, http.client, json, time
seen = collections.Counter()
end = time.time() + 3
while time.time() < end:
    try:
        connection = http.client.HTTPConnection("server", 80, timeout=2)
        connection.request("GET", "/")
        seen[str(connection.getresponse().status)] += 1
    except OSError as error:
        seen[type(error).__name__] += 1
    connection.close()
print(json.dumps(seen))
"""
_NOWHERE = {"spec": {"template": {"spec": {"nodeSelector": {"penstock.test/none": "yes"}}}}}
_EVERYWHERE = {"spec": {"template": {"spec": {"nodeSelector": None}}}}


def policy(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"friend": "yes"}}],
                    "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
                }
            ],
        },
    }


def hasty_pod(name: str, namespace: str, node: str, **labels: str) -> dict[str, Any]:
    """Return a Pod that asks the server for three seconds, as soon as it can, and tells."""
    raw = echo_pod(name, namespace, node, labels)
    raw["spec"]["restartPolicy"] = "Never"
    raw["spec"]["containers"] = [
        {"name": "hasty", "image": ECHO_IMAGE, "command": ["python3", "-c", _HASTY]}
    ]
    return raw


@pytest.fixture
def place(mesh: Mesh, namespace: str) -> str:
    """Return a namespace with a server on the first node that only friends may ask."""
    cluster = mesh.cluster
    server = echo_pod("server", namespace, NODES[0], {"app": "server"})
    enemy = echo_pod("enemy", namespace, NODES[0], {"app": "enemy"})
    cluster.apply(echo_service("server", namespace), policy(namespace))
    run_pods(cluster, namespace, server, enemy)
    assert eventually(lambda: ask(mesh, namespace, "enemy").error == "refused")
    return namespace


def ask(mesh: Mesh, namespace: str, pod: str) -> Answer:
    return ask_from(mesh.cluster, pod, namespace, "GET", "http://server/")


def phase(mesh: Mesh, namespace: str, pod: str) -> str:
    return str(mesh.cluster.get("-n", namespace, "pod", pod)["status"].get("phase", ""))


def told(mesh: Mesh, namespace: str, pod: str) -> dict[str, int]:
    """Return what became of the requests of a hasty pod, when it has ended."""
    assert eventually(lambda: phase(mesh, namespace, pod) == "Succeeded", 120.0)
    counts: dict[str, int] = json.loads(mesh.cluster.kubectl("-n", namespace, "logs", pod))
    return counts


@pytest.mark.parametrize("node", NODES)
def test_the_first_packet_of_a_pod_is_judged(mesh: Mesh, place: str, node: str) -> None:
    mesh.cluster.apply(hasty_pod("stranger", place, node, app="stranger"))
    assert set(told(mesh, place, "stranger")) == {"ConnectionRefusedError"}


def test_the_first_request_of_a_pod_is_served_on_its_node(mesh: Mesh, place: str) -> None:
    mesh.cluster.apply(hasty_pod("friend", place, NODES[0], friend="yes"))
    assert set(told(mesh, place, "friend")) == {"200"}


def test_other_nodes_know_a_pod_when_its_object_has_its_address(mesh: Mesh, place: str) -> None:
    """Until then they refuse it, as everybody whom they do not know."""
    mesh.cluster.apply(hasty_pod("friend", place, NODES[1], friend="yes"))
    found = told(mesh, place, "friend")
    assert "200" in found
    assert set(found) <= {"200", "ConnectionRefusedError"}


@contextlib.contextmanager
def no_agents(mesh: Mesh) -> Generator[None]:
    """Take the agents away from all nodes, and bring them back."""
    rollout = ("-n", NAMESPACE, "rollout", "status", "daemonset/penstock-agent", "--timeout=120s")
    patch = ("-n", NAMESPACE, "patch", "daemonset", "penstock-agent", "-p")
    mesh.cluster.kubectl(*patch, json.dumps(_NOWHERE))
    try:
        assert eventually(lambda: not mesh.pods("agent"))
        yield
    finally:
        mesh.cluster.kubectl(*patch, json.dumps(_EVERYWHERE))
        mesh.cluster.kubectl(*rollout)


def test_new_pods_wait_for_an_agent_and_running_ones_need_none(mesh: Mesh, place: str) -> None:
    cluster = mesh.cluster
    asker = asking_pod("asker", place, NODES[1], {"server": "http://server/"})
    asker["metadata"]["labels"]["friend"] = "yes"
    cluster.apply(asker)
    cluster.kubectl("-n", place, "wait", "pod/asker", "--for=condition=Ready", "--timeout=60s")
    traffic = traffic_of(cluster, place, "asker")
    traffic.wait_for_more()
    with no_agents(mesh):
        cluster.apply(hasty_pod("late", place, NODES[1], app="late"))
        traffic.wait_for_more(300)
        assert phase(mesh, place, "late") == "Pending"
    assert set(told(mesh, place, "late")) == {"ConnectionRefusedError"}
    traffic.wait_for_more()
    assert traffic.bad() == {}


def test_a_pod_of_envoy_that_is_replaced_leaves_nothing_open(mesh: Mesh, place: str) -> None:
    """What needs Envoy is refused meanwhile; what the kernel judges goes on as ever."""
    old = mesh.pod_on("envoy", NODES[1])
    mesh.cluster.apply(hasty_pod("stranger", place, NODES[1], app="stranger"))
    mesh.cluster.kubectl("-n", NAMESPACE, "delete", "pod", old)
    assert set(told(mesh, place, "stranger")) == {"ConnectionRefusedError"}
    new = f"pod/{mesh.pod_on('envoy', NODES[1])}"
    assert new != f"pod/{old}"
    ready = ("wait", new, "--for=condition=Ready", "--timeout=60s")
    mesh.cluster.kubectl("-n", NAMESPACE, *ready)
    mesh.cluster.apply(hasty_pod("friend", place, NODES[1], friend="yes"))
    assert "200" in told(mesh, place, "friend")
