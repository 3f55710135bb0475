"""Services of Gateways on real nodes: pods reach a Gateway by its name, a cloud by node ports."""

from __future__ import annotations

import ipaddress
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
CHOSEN, SECOND, FOREIGN = "10.96.200.50", "10.96.200.51", "198.51.100.9"
"""Addresses in the network of Services that nobody else asks for, and outside of it."""
INSIDE = {"routability": "Cluster"}
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


def shop(cluster: Cluster, namespace: str, *addresses: dict[str, str]) -> None:
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
        gateway(namespace, *addresses),
        route(namespace, "HTTPRoute", "v1", "http", "echo"),
        route(namespace, "UDPRoute", "v1alpha2", "datagrams", "datagrams"),
    )
    ready = ("wait", "--for=condition=Ready", "pod", "--all", f"--timeout={PATIENCE:.0f}s")
    cluster.kubectl("-n", namespace, *ready)


def gateway(namespace: str, *addresses: dict[str, str], name: str = "gw") -> dict[str, Any]:
    return {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": list(LISTENERS),
            "addresses": list(addresses),
        },
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


def datagram_from(mesh: Mesh, namespace: str, pod: str, address: str) -> str:
    """Return what comes back for a datagram from a pod to port 80."""
    asks = ("exec", pod, "--", "python3", "-c", ASKS, address, "80")
    return mesh.cluster.kubectl("-n", namespace, *asks).strip()


def datagram(mesh: Mesh, address: str, port: int) -> str:
    """Return what comes back for a datagram from outside."""
    words = mesh.cluster.in_control_netns(sys.executable, "-c", ASKS, address, str(port))
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def found_service(mesh: Mesh, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = mesh.cluster.get("-n", namespace, "service", "gw-penstock")
    return found


def status_of(mesh: Mesh, namespace: str, name: str = "gw") -> dict[str, Any]:
    found: dict[str, Any] = mesh.cluster.get("-n", namespace, "gateway", name)["status"]
    return found


def said(status: dict[str, Any], kind: str) -> tuple[str, str]:
    """Return status and reason of a condition, "" both if it is not there."""
    found = [one for one in status["conditions"] if one["type"] == kind]
    return (found[0]["status"], found[0]["reason"]) if found else ("", "")


def programmed(mesh: Mesh, namespace: str) -> tuple[str, str]:
    return said(status_of(mesh, namespace), "Programmed")


def assigned(mesh: Mesh, namespace: str, name: str, reason: str) -> dict[str, list[str]]:
    """Return the addresses of a Gateway by their reach, once the condition has *reason*."""

    def told() -> bool:
        is_all = str(reason == "AddressesAssigned")
        return said(status_of(mesh, namespace, name), "AddressesAssigned") == (is_all, reason)

    assert eventually(told), status_of(mesh, namespace, name)
    found: dict[str, list[str]] = {}
    for one in status_of(mesh, namespace, name).get("addresses", ()):
        assert one["type"] == "IPAddress"
        found.setdefault(one["routability"], []).append(one["value"])
    return found


def is_of_cluster(mesh: Mesh, address: str) -> bool:
    """Tell whether an address is in a network of Services, as the API server says them."""
    networks = [
        ipaddress.ip_network(text)
        for one in mesh.cluster.get("servicecidrs")["items"]
        for text in one["spec"]["cidrs"]
    ]
    return any(ipaddress.ip_address(address) in one for one in networks)


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


def test_a_gateway_for_the_inside_is_reached_by_pods_of_all_nodes_and_from_nowhere_else(
    mesh: Mesh, namespace: str
) -> None:
    claimed = mesh.cluster.get("gatewayclass", "penstock")["status"]["supportedFeatures"]
    base = "GatewayAddressRoutability"
    assert [one for one in claimed if one["name"].startswith(base)] == [
        {"name": base},
        {"name": f"{base}Cluster"},
    ]
    shop(mesh.cluster, namespace, INSIDE)
    (address,) = assigned(mesh, namespace, "gw", "AddressesAssigned")["Cluster"]
    assert is_of_cluster(mesh, address)
    assert eventually(lambda: programmed(mesh, namespace) == ("True", "Programmed"))
    for pod in ("one", "two"):
        assert eventually(lambda pod=pod: status_from(mesh, namespace, pod) == 200)  # type: ignore[misc]
        url = f"http://{address}/"
        assert ask_from(mesh.cluster, pod, namespace, "GET", url).status == 200
        assert eventually(
            lambda pod=pod: datagram_from(mesh, namespace, pod, address) == "echo hello"  # type: ignore[misc]
        )
    reached_under_policy(mesh, namespace, {"toEntities": ["ingress"]})
    for outer in (address, *NODES.values()):
        assert ask_outside(mesh.cluster, "GET", f"http://{outer}/").status == 0


def test_addresses_for_the_inside_stand_beside_others_and_can_be_chosen(
    mesh: Mesh, namespace: str
) -> None:
    mesh.cluster.apply(
        gateway(namespace, {}, INSIDE, name="mixed"),
        gateway(namespace, {"value": CHOSEN} | INSIDE, name="chosen"),
        gateway(namespace, {"value": SECOND}, name="plain"),
        gateway(namespace, {"value": FOREIGN} | INSIDE, {}, name="partial"),
        gateway(namespace, {"value": FOREIGN} | INSIDE, name="foreign"),
    )
    mixed = assigned(mesh, namespace, "mixed", "AddressesAssigned")
    assert {reach: len(found) for reach, found in mixed.items()} == {"": 1, "Cluster": 1}
    assert is_of_cluster(mesh, mixed["Cluster"][0])
    assert not is_of_cluster(mesh, mixed[""][0])
    assert assigned(mesh, namespace, "chosen", "AddressesAssigned") == {"Cluster": [CHOSEN]}
    assert assigned(mesh, namespace, "plain", "AddressesAssigned") == {"Cluster": [SECOND]}
    partial = assigned(mesh, namespace, "partial", "PartiallyAssigned")
    assert {reach: len(found) for reach, found in partial.items()} == {"": 1}
    assert FOREIGN in json.dumps(status_of(mesh, namespace, "partial")["conditions"])
    assert assigned(mesh, namespace, "foreign", "NotAssigned") == {}
    foreign = status_of(mesh, namespace, "foreign")
    assert said(foreign, "Programmed") == ("False", "AddressNotAssigned")


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
