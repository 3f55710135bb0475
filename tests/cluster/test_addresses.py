"""Addresses from the pool on real nodes: who has them, who reaches them, and where they go."""

from __future__ import annotations

from typing import Any

import pytest

from support.cluster.addresses import (
    NODES,
    balanced,
    balanced_address,
    is_on_link,
    labels,
    owners,
)
from support.cluster.control_plane import NODE_IS_MISSED
from support.cluster.install import NAMESPACE
from support.cluster.mesh import Mesh
from support.cluster.traffic import (
    Answer,
    ask_from,
    ask_outside,
    echo_pod,
    eventually,
    run_pods,
)

FREE = "172.31.0.185"
"""An address of the pool that only these tests ask for."""
OUTSIDE = "192.0.2.1"


def gateway(namespace: str, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": namespace},
        "spec": {
            "gatewayClassName": "penstock",
            "addresses": [{"type": "IPAddress", "value": one} for one in addresses],
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
        },
    }


def run_echo(mesh: Mesh, namespace: str, name: str, node: str) -> None:
    run_pods(mesh.cluster, namespace, echo_pod(name, namespace, node, labels(name)))


def answers(mesh: Mesh, address: str) -> Answer:
    """Return the first good answer from outside of *address*, else the last one."""
    url = f"http://{address}/"
    eventually(lambda: ask_outside(mesh.cluster, "GET", url).status == 200)
    return ask_outside(mesh.cluster, "GET", url)


def programmed(mesh: Mesh, namespace: str) -> tuple[str, str]:
    status = mesh.cluster.get("-n", namespace, "gateway", "gw").get("status", {})
    (found,) = [one for one in status["conditions"] if one["type"] == "Programmed"]
    return found["status"], found["reason"]


@pytest.mark.parametrize("node", NODES)
def test_a_load_balancer_is_reached_from_outside(mesh: Mesh, namespace: str, node: str) -> None:
    run_echo(mesh, namespace, "web", node)
    mesh.cluster.apply(balanced("web", namespace))
    address = balanced_address(mesh, namespace, "web")
    answer = answers(mesh, address)
    assert answer.status == 200, answer
    envoys = mesh.cluster.get(
        "-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/name=penstock-envoy"
    )["items"]
    assert any(f'"{one["status"]["podIP"]}"' in answer.body for one in envoys)
    shown = mesh.cluster.kubectl("-n", namespace, "get", "service", "web")
    assert address in shown


def test_pods_reach_a_load_balancer_without_a_detour(mesh: Mesh, namespace: str) -> None:
    run_echo(mesh, namespace, "web", "n1")
    run_echo(mesh, namespace, "client", "n2")
    mesh.cluster.apply(balanced("web", namespace))
    url = f"http://{balanced_address(mesh, namespace, 'web')}/"
    client = mesh.cluster.get("-n", namespace, "pod", "client")["status"]["podIP"]
    assert eventually(
        lambda: f'"{client}"' in ask_from(mesh.cluster, "client", namespace, "GET", url).body
    )


def test_a_gateway_gets_the_address_that_it_asks_for(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(gateway(namespace, FREE))
    assert eventually(lambda: programmed(mesh, namespace) == ("True", "Programmed"))
    (found,) = mesh.cluster.get("-n", namespace, "gateway", "gw")["status"]["addresses"]
    assert (found["type"], found["value"]) == ("IPAddress", FREE)
    url = f"http://{FREE}/"
    assert eventually(lambda: ask_outside(mesh.cluster, "GET", url).status == 404)
    assert len(owners(mesh, FREE)) == 1


def test_a_gateway_that_asks_for_what_cannot_be_had_says_so(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(gateway(namespace, OUTSIDE))
    assert eventually(lambda: programmed(mesh, namespace) == ("False", "AddressNotUsable"))


def test_an_address_moves_when_its_node_dies_and_back(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(balanced("web", namespace))
    address = balanced_address(mesh, namespace, "web")
    assert eventually(lambda: len(owners(mesh, address)) == 1)
    (first,) = owners(mesh, address)
    (other,) = (node for node in NODES if node != first)
    run_echo(mesh, namespace, "web", other)
    assert answers(mesh, address).status == 200
    mesh.cluster.stop_node(first)
    try:
        url = f"http://{address}/"
        assert eventually(
            lambda: (
                is_on_link(mesh, other, address)
                and ask_outside(mesh.cluster, "GET", url).status == 200
            ),
            NODE_IS_MISSED,
        )
    finally:
        mesh.cluster.start_node(first)
        ready(mesh)
    assert eventually(lambda: owners(mesh, address) == [first], NODE_IS_MISSED)
    assert answers(mesh, address).status == 200


def ready(mesh: Mesh) -> None:
    """Wait until Penstock is complete again on every node."""
    patience = f"--timeout={NODE_IS_MISSED:.0f}s"
    mesh.cluster.kubectl(
        "-n", NAMESPACE, "wait", "--for=condition=Ready", "pods", "--all", patience
    )
