"""Ingresses on real nodes: an address from the pool, and what policies see."""

from __future__ import annotations

from typing import Any

from support.cluster.mesh import Mesh
from support.cluster.traffic import ask_outside, echo_pod, eventually

API = "networking.k8s.io/v1"


def ingress(name: str, namespace: str, host: str, mode: str = "shared") -> dict[str, Any]:
    backend = {"service": {"name": "echo", "port": {"name": "http"}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": API,
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": {"ingress.cilium.io/loadbalancer-mode": mode},
        },
        "spec": {
            "ingressClassName": "penstock",
            "rules": [{"host": host, "http": {"paths": paths}}],
        },
    }


def policy(namespace: str, entity: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "from", "namespace": namespace},
        "spec": {"endpointSelector": {}, "ingress": [{"fromEntities": [entity]}]},
    }


def address(mesh: Mesh, namespace: str, name: str) -> str:
    """Return the address that the status says, "" while there is none."""
    status = mesh.cluster.get("-n", namespace, "ingress", name).get("status", {})
    entries = status.get("loadBalancer", {}).get("ingress") or [{}]
    return str(entries[0].get("ip", ""))


def test_ingresses_have_addresses_and_policies_see_them_as_ingress(
    mesh: Mesh, namespace: str
) -> None:
    cluster = mesh.cluster
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo", "namespace": namespace},
        "spec": {"selector": {"app": "echo"}, "ports": ports},
    }
    for one in (
        service,
        echo_pod("echo", namespace, "n1", {"app": "echo"}),
        ingress("one", namespace, "one.test"),
        ingress("two", namespace, "two.test"),
        ingress("own", namespace, "own.test", "dedicated"),
    ):
        cluster.apply(one)

    def status(name: str, host: str) -> int:
        at = address(mesh, namespace, name)
        return ask_outside(cluster, "GET", f"http://{at}/", host).status if at else 0

    assert eventually(lambda: status("one", "one.test") == 200)
    assert eventually(lambda: status("own", "own.test") == 200)
    assert address(mesh, namespace, "one") == address(mesh, namespace, "two")
    assert address(mesh, namespace, "one") != address(mesh, namespace, "own")
    assert (status("own", "one.test"), status("two", "two.test")) == (404, 200)

    cluster.apply(policy(namespace, "ingress"))
    assert eventually(lambda: status("one", "one.test") == 200)
    cluster.apply(policy(namespace, "world"))
    assert eventually(lambda: status("one", "one.test") == 403)
