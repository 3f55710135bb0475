"""Routes as a platform's tenants make them, one after the other, on one Gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from support.objects import CONTROLLER

Raw = dict[str, Any]

NAMESPACE = "routes"
GATEWAY = "edge"
SERVICES = ("app-a", "app-b")
SHARED_HOST = "shared.example.test"


def common(
    address: str, ports: tuple[int, int], port: int, more: Sequence[Raw] = ()
) -> Iterator[Raw]:
    """Yield namespace, class, a Gateway at *port*, and two Services with an endpoint each.

    The Gateway has the listeners *more*, too.
    """
    yield namespace(NAMESPACE)
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "penstock"},
        "spec": {"controllerName": CONTROLLER},
    }
    yield {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": GATEWAY, "namespace": NAMESPACE},
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": port}, *more],
        },
    }
    for index, (name, target) in enumerate(zip(SERVICES, ports, strict=True)):
        yield from service(name, f"10.96.0.{100 + index}", address, target)


def namespace(name: str) -> Raw:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def own_host(index: int) -> tuple[str, str]:
    """Return hostname and path of a route that shares its hostname with none."""
    return f"app-{index}.example.test", "/"


def watched_host(index: int) -> tuple[str, str]:
    """Return the same, of routes that come after those."""
    return f"later-{index}.example.test", "/"


def shared_host(index: int) -> tuple[str, str]:
    """Return hostname and path of a route that shares its hostname with all."""
    return SHARED_HOST, f"/app-{index}"


def route(name: str, place: tuple[str, str], service: str = SERVICES[0]) -> Raw:
    """Return a route to *service* with header filters and a second rule to nothing."""
    host, path = place
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"name": GATEWAY}],
            "hostnames": [host],
            "rules": [
                {
                    "matches": [_prefix(path)],
                    "filters": [
                        _modifier("Request", "x-route", name),
                        _modifier("Response", "x-served-by", name),
                    ],
                    "backendRefs": [{"name": service, "port": 80}],
                },
                {
                    "matches": [_prefix(f"{path.rstrip('/')}/nowhere")],
                    "backendRefs": [{"name": "does-not-exist", "port": 80}],
                },
            ],
        },
    }


def gateway_path() -> str:
    """Return where the API server has the Gateways of the namespace."""
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/gateways"


def service(
    name: str, virtual: str, address: str, target: int, namespace: str = NAMESPACE
) -> Iterator[Raw]:
    """Yield a Service at the virtual address and its only endpoint."""
    port = {"name": "http", "port": 80, "targetPort": target, "protocol": "TCP"}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": virtual, "ports": [port]},
    }
    conditions = {"ready": True, "serving": True, "terminating": False}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-x7k2p",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": target, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": conditions, "nodeName": "n1"}],
    }


def _prefix(path: str) -> Raw:
    return {"path": {"type": "PathPrefix", "value": path}}


def _modifier(what: str, header: str, value: str) -> Raw:
    modifier = {"set": [{"name": header, "value": value}], "remove": [f"{header}-old"]}
    return {
        "type": f"{what}HeaderModifier",
        f"{what.lower()}HeaderModifier": modifier,
    }
