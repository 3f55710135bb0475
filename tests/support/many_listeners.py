"""A Gateway with very many HTTPS listeners, each in a ListenerSet with a route of its own."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core.objects import Broken, Object
from support import objects
from support.pki import issue, tls_secret_raw

PORT = 443
_GROUP = "gateway.networking.k8s.io"
_SHARED = "shared"


def hostname(index: int) -> str:
    return f"h{index}.many.test"


def cluster(count: int) -> Iterator[Object | Broken]:
    """Yield the Gateway, its application, and *count* ListenerSets that share a certificate."""
    yield objects.gateway_class()
    yield objects.made(
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "shop"},
            "spec": {
                "gatewayClassName": "penstock",
                "allowedListeners": {"namespaces": {"from": "Same"}},
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        }
    )
    yield objects.service("app", "10.96.0.1")
    yield objects.endpoint_slice("app", ["10.244.0.1"])
    yield secret(_SHARED, "*.many.test")
    for index in range(count):
        yield listener_set(index)
        yield route(index)


def secret(name: str, *names: str) -> Object | Broken:
    return objects.made(tls_secret_raw(name, "shop", [issue(*names)]))


def listener_set(index: int, certificate: str = _SHARED) -> Object | Broken:
    listener = {
        "name": "web",
        "port": PORT,
        "protocol": "HTTPS",
        "hostname": hostname(index),
        "tls": {"certificateRefs": [{"name": certificate}]},
    }
    return objects.made(
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "ListenerSet",
            "metadata": {"name": f"set-{index}", "namespace": "shop"},
            "spec": {"parentRef": {"name": "edge"}, "listeners": [listener]},
        }
    )


def route(index: int) -> Object | Broken:
    parent = {"group": _GROUP, "kind": "ListenerSet", "name": f"set-{index}"}
    return objects.http_route(
        f"route-{index}", parent=parent, backends=[("app", 1)], hostnames=[hostname(index)]
    )
