"""A large cluster as an API server gets it: 10,000 HTTPRoutes, 5,000 Services, 20,000 endpoints.

Half of the routes are on Services of the mesh, half on one Gateway, each with a hostname of its
own. The first Services have one endpoint each, where a bench has backends: at an address of this
machine, because an API server takes no loopback address of an endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from support.objects import CONTROLLER

Raw = dict[str, Any]

NAMESPACES, SERVICES, ENDPOINTS = 50, 5_000, 4
"""Namespaces, Services in all of them, endpoints of each Service."""
PROBED = 2
"""Services with endpoints that answer."""


class Backends(msgspec.Struct, frozen=True):
    """Where the endpoints of the first Services are."""

    address: str
    ports: tuple[int, int]


FIRST = 100
"""Services that are there before the others, for what is measured with many nodes."""


def namespaces() -> Iterator[Raw]:
    """Yield the namespaces."""
    for index in range(NAMESPACES):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace(index)}}


def common() -> Iterator[Raw]:
    """Yield the class of Gateways and the only Gateway."""
    yield gateway_class("penstock", CONTROLLER)
    yield gateway()


def gateway_class(name: str, controller: str) -> Raw:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }


def services(backends: Backends, first: int, last: int) -> Iterator[Raw]:
    """Yield Services from *first* to before *last*, their endpoints and routes."""
    for index in range(first, last):
        yield _service(index)
        yield endpoint_slice(index, backends)
        yield mesh_route(index)
        yield gateway_route(index)


def namespace(index: int) -> str:
    return f"ns-{index % NAMESPACES}"


def name_of(index: int) -> str:
    return f"svc-{index}"


def virtual_address(index: int) -> str:
    return f"10.96.{10 + index // 250}.{index % 250 + 1}"


def endpoint_slice(index: int, backends: Backends, turn: int = 0) -> Raw:
    """Return the endpoints of a Service; *turn* modulo 2 is the version of the first one."""
    if index < PROBED:
        addresses, port = [backends.address], backends.ports[(index + turn) % 2]
    else:
        first = index * ENDPOINTS + 1
        numbers = [first + 100_000 * (turn % 2), *range(first + 1, first + ENDPOINTS)]
        addresses, port = [_address(number) for number in numbers], 8080
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name_of(index)}-x7k2p",
            "namespace": namespace(index),
            "labels": {
                "kubernetes.io/service-name": name_of(index),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [_endpoint(address, node) for node, address in enumerate(addresses)],
    }


def mesh_route(index: int, version: int = 0) -> Raw:
    """Return the route of a Service, with a response header that says its version."""
    parent = {"group": "", "kind": "Service", "name": name_of(index), "port": 80}
    return _route(f"mesh-{index}", index, {"parentRefs": [parent]}, version)


def gateway_route(index: int, version: int = 0) -> Raw:
    """Return the route of a Service at the Gateway."""
    parent = {"name": "edge", "namespace": namespace(0)}
    head = {"parentRefs": [parent], "hostnames": [f"app-{index}.example.test"]}
    return _route(f"gate-{index}", index, head, version)


def _route(name: str, index: int, head: Raw, version: int) -> Raw:
    header = {"name": "x-version", "value": f"v{version}."}
    change = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}
    backends = [{"name": name_of(index), "port": 80}]
    rules: list[Raw] = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "filters": [change],
            "backendRefs": backends,
        }
        for path in ("/", "/api")
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace(index), "labels": {"app": name}},
        "spec": {**head, "rules": rules},
    }


def _service(index: int) -> Raw:
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    labels = {"app": name_of(index)}
    address = virtual_address(index)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name_of(index), "namespace": namespace(index), "labels": labels},
        "spec": {"selector": labels, "ports": [port], "clusterIP": address},
    }


def _address(number: int) -> str:
    return f"10.{128 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


def _endpoint(address: str, node: int) -> Raw:
    conditions = {"ready": True, "serving": True, "terminating": False}
    return {"addresses": [address], "conditions": conditions, "nodeName": f"node-{node}"}


def gateway(class_name: str = "penstock") -> Raw:
    """Return the only Gateway."""
    listener = {
        "name": "http",
        "protocol": "HTTP",
        "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge", "namespace": namespace(0)},
        "spec": {"gatewayClassName": class_name, "listeners": [listener]},
    }
