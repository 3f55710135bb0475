"""LoadBalancers of a cluster, and the nodes that have their addresses."""

from __future__ import annotations

import subprocess
from typing import Any

from support.cluster.mesh import Mesh
from support.cluster.traffic import eventually

NODES = ("n1", "n2")


def labels(name: str) -> dict[str, str]:
    return {"app": name}


def balanced(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": "LoadBalancer",
            "selector": labels(name),
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    }


def balanced_address(mesh: Mesh, namespace: str, name: str) -> str:
    """Return the address of a LoadBalancer once it is in the status."""

    def found() -> list[dict[str, str]]:
        service = mesh.cluster.get("-n", namespace, "service", name)
        entries: list[dict[str, str]] = service["status"]["loadBalancer"].get("ingress", [])
        return entries

    assert eventually(found), f"Service {name} gets no address"
    (entry,) = found()
    return entry["ip"]


def gateway_address(mesh: Mesh, namespace: str, name: str) -> str:
    """Return the first address of a Gateway once it is in the status."""

    def found() -> list[dict[str, str]]:
        status = mesh.cluster.get("-n", namespace, "gateway", name).get("status", {})
        entries: list[dict[str, str]] = status.get("addresses", [])
        return entries

    assert eventually(found), f"Gateway {name} gets no address"
    return found()[0]["value"]


def owners(mesh: Mesh, address: str) -> list[str]:
    """Return the nodes on whose link *address* is."""
    return [node for node in NODES if is_on_link(mesh, node, address)]


def is_on_link(mesh: Mesh, node: str, address: str) -> bool:
    words = mesh.cluster.in_node(node, "ip", "-o", "addr", "show", "to", address)
    return bool(subprocess.run(words, capture_output=True, check=True).stdout)
