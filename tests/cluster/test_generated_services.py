"""Services of Gateways on real nodes: pods reach a Gateway by its name, a cloud by node ports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from support.cluster.cluster import Cluster
from support.cluster.install import NAMESPACE, install, values
from support.cluster.mesh import GATE_PORT, Mesh
from support.cluster.traffic import PATIENCE, ask_from, ask_outside, echo_pod, eventually

NODES = {"n1": "172.31.0.11", "n2": "172.31.0.12"}
GIVEN = "203.0.113.5"
"""An address that the test's cloud gives."""
LISTENERS = (
    {"name": "http", "protocol": "HTTP", "port": 80},
    {"name": "datagrams", "protocol": "UDP", "port": 80},
)
GATEWAY_API = "gateway.networking.k8s.io"
ECHOES = """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("0.0.0.0", 5353))
while True:
    said, sender = one.recvfrom(2048)
    one.sendto(b"echo " + said, sender)
"""
ASKS = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(1)
one.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
try:
    print(one.recv(2048).decode())
except OSError as error:
    print(error)
"""


def shop(cluster: Cluster, namespace: str) -> None:
    """Make a Gateway with routes to an echo server and to one of datagrams, and two clients."""
    of_datagrams = echo_pod("datagrams", namespace, "n2", {"app": "datagrams"})
    container = of_datagrams["spec"]["containers"][0]
    container.pop("readinessProbe")
    container["command"] = ["python3", "-c", ECHOES]
    cluster.apply(
        of_datagrams,
        *(
            echo_pod(name, namespace, node, {"app": name})
            for name, node in (("echo", "n1"), ("one", "n1"), ("two", "n2"))
        ),
        service(namespace, "echo", {"port": 80, "targetPort": 8080, "protocol": "TCP"}),
        service(namespace, "datagrams", {"port": 80, "targetPort": 5353, "protocol": "UDP"}),
        gateway(namespace),
        route(namespace, "HTTPRoute", "v1", "http", "echo"),
        route(namespace, "UDPRoute", "v1alpha2", "datagrams", "datagrams"),
    )
    ready = ("wait", "--for=condition=Ready", "pod", "--all", f"--timeout={PATIENCE:.0f}s")
    cluster.kubectl("-n", namespace, *ready)


def gateway(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": namespace},
        "spec": {"gatewayClassName": "penstock", "listeners": list(LISTENERS)},
    }


def route(namespace: str, kind: str, version: str, section: str, to: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{GATEWAY_API}/{version}",
        "kind": kind,
        "metadata": {"name": section, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": "gw", "sectionName": section}],
            "rules": [{"backendRefs": [{"name": to, "port": 80}]}],
        },
    }


def service(namespace: str, name: str, port: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [port]},
    }


def policy(namespace: str, *rules: dict[str, Any]) -> dict[str, Any]:
    """Return a policy for the clients: names, and what *rules* say."""
    names = {"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "clients", "namespace": namespace},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "one"}},
            "egress": [names, *rules],
        },
    }


def status_from(mesh: Mesh, namespace: str, pod: str) -> int:
    """Return how a Gateway answers a pod that asks it by name; 0 for not at all."""
    url = f"http://gw-penstock.{namespace}.svc.cluster.local/"
    return ask_from(mesh.cluster, pod, namespace, "GET", url).status


def datagram(mesh: Mesh, address: str, port: int) -> str:
    """Return what comes back for a datagram from outside."""
    words = mesh.cluster.in_control_netns(sys.executable, "-c", ASKS, address, str(port))
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def found_service(mesh: Mesh, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = mesh.cluster.get("-n", namespace, "service", "gw-penstock")
    return found


def programmed(mesh: Mesh, namespace: str) -> tuple[str, str]:
    status = mesh.cluster.get("-n", namespace, "gateway", "gw").get("status", {})
    (found,) = [one for one in status["conditions"] if one["type"] == "Programmed"]
    return found["status"], found["reason"]


def reached_under_policy(mesh: Mesh, namespace: str, allowed: dict[str, Any]) -> None:
    """Check that a policy of clients decides about the Gateway by its addresses."""
    cluster = mesh.cluster
    cluster.apply(policy(namespace))
    assert eventually(lambda: status_from(mesh, namespace, "one") == 0)
    assert status_from(mesh, namespace, "two") == 200
    cluster.apply(policy(namespace, allowed))
    assert eventually(lambda: status_from(mesh, namespace, "one") == 200)
    cluster.kubectl("-n", namespace, "delete", "ciliumnetworkpolicy", "clients")
    assert eventually(lambda: status_from(mesh, namespace, "one") == 200)


def test_pods_reach_a_gateway_by_its_name(mesh: Mesh, namespace: str) -> None:
    shop(mesh.cluster, namespace)
    for pod in ("one", "two"):
        assert eventually(lambda pod=pod: status_from(mesh, namespace, pod) == 200)  # type: ignore[misc]
    assert found_service(mesh, namespace)["spec"]["type"] == "ClusterIP"
    reached_under_policy(mesh, namespace, {"toEntities": ["world"]})


def test_services_are_deleted_with_their_gateway(mesh: Mesh, namespace: str) -> None:
    mesh.cluster.apply(gateway(namespace))
    listed = ("-n", namespace, "services,endpointslices", "-o", "name")
    assert eventually(lambda: len(mesh.cluster.kubectl("get", *listed).split()) == 2)
    mesh.cluster.kubectl("-n", namespace, "delete", "gateway", "gw")
    assert eventually(lambda: not mesh.cluster.kubectl("get", *listed).split())


@pytest.fixture(scope="module")
def cloud(mesh: Mesh) -> Generator[Mesh]:
    """Have a cloud give Gateways their addresses."""
    chosen = values(api_port=GATE_PORT, gatewayAddresses={"mode": "loadbalancer"})
    try:
        install(mesh.cluster, chosen)
        yield mesh
    finally:
        install(mesh.cluster, values(api_port=GATE_PORT))


def test_a_cloud_reaches_gateways_at_the_node_ports_of_every_node(
    cloud: Mesh, namespace: str
) -> None:
    shop(cloud.cluster, namespace)

    def ports() -> dict[str, int]:
        spec = found_service(cloud, namespace)["spec"]
        return {one["protocol"]: one["nodePort"] for one in spec["ports"]}

    assert eventually(lambda: programmed(cloud, namespace) == ("False", "AddressNotAssigned"))
    numbers = ports()
    for address in NODES.values():
        url = f"http://{address}:{numbers['TCP']}/"
        assert eventually(lambda url=url: ask_outside(cloud.cluster, "GET", url).status == 200)  # type: ignore[misc]
        assert eventually(
            lambda address=address: datagram(cloud, address, numbers["UDP"]) == "echo hello"  # type: ignore[misc]
        )
    given = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": GIVEN}]}}})
    patch = ("patch", "service", "gw-penstock", "--subresource=status", "--type=merge", "-p", given)
    cloud.cluster.kubectl("-n", namespace, *patch)
    assert eventually(lambda: programmed(cloud, namespace) == ("True", "Programmed"))
    status = cloud.cluster.get("-n", namespace, "gateway", "gw")["status"]
    (address,) = status["addresses"]
    assert (address["type"], address["value"]) == ("IPAddress", GIVEN)
    for pod in ("one", "two"):
        assert eventually(lambda pod=pod: status_from(cloud, namespace, pod) == 200)  # type: ignore[misc]
    reached_under_policy(cloud, namespace, {"toEntities": ["host", "remote-node"]})


def test_a_cloud_reaches_ingresses_by_the_service_of_their_class(
    cloud: Mesh, namespace: str
) -> None:
    cluster = cloud.cluster
    backend = {"service": {"name": "echo", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    host = f"{namespace}.test"
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "ingressClassName": "penstock",
            "rules": [{"host": host, "http": {"paths": paths}}],
        },
    }
    cluster.apply(
        echo_pod("echo", namespace, "n1", {"app": "echo"}),
        service(namespace, "echo", {"port": 80, "targetPort": 8080, "protocol": "TCP"}),
        ingress,
    )
    names = ("-n", NAMESPACE, "services", "-l", "penstock.dev/generated-for")
    assert eventually(lambda: cluster.get(*names)["items"])
    (made,) = cluster.get(*names)["items"]
    number = next(one["nodePort"] for one in made["spec"]["ports"] if one["port"] == 80)
    for address in NODES.values():
        url = f"http://{address}:{number}/"
        assert eventually(
            lambda url=url: ask_outside(cluster, "GET", url, host).status == 200  # type: ignore[misc]
        )
    given = json.dumps({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}}})
    name = made["metadata"]["name"]
    patch = ("patch", "service", name, "--subresource=status", "--type=merge", "-p", given)
    cluster.kubectl("-n", NAMESPACE, *patch)

    def entries() -> list[dict[str, str]]:
        status = cluster.get("-n", namespace, "ingress", "web")["status"]
        found: list[dict[str, str]] = status["loadBalancer"].get("ingress", [])
        return found

    assert eventually(lambda: entries() == [{"hostname": "lb.test"}])
