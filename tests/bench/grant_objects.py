"""What another namespace lends to a Gateway and to a route, and the grants that allow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench import route_objects
from support.pki import issue, tls_secret_raw

Raw = dict[str, Any]

OTHER = "lenders"
"""The namespace that lends."""
ABROAD = "abroad.example.test"
"""Hostname of the route whose backend is there."""
SERVICE = "lent"
_GROUP = "gateway.networking.k8s.io"


def server_name(index: int) -> str:
    return f"lent-{index}.example.test"


def secret_name(index: int) -> str:
    return f"cert-{index}"


def listeners(port: int, count: int) -> Sequence[Raw]:
    """Return HTTPS listeners: one with a Secret of the Gateway's namespace, then *count* others."""
    own = _listener("own", port, "own.example.test", {"name": "own"})
    lent = (
        _listener(
            secret_name(index),
            port,
            server_name(index),
            {"name": secret_name(index), "namespace": OTHER},
        )
        for index in range(count)
    )
    return [own, *lent]


def secrets(count: int) -> Iterator[Raw]:
    """Yield the Secrets of those listeners; all have the same certificate."""
    issued = [issue("own.example.test", *map(server_name, range(count)))]
    yield tls_secret_raw("own", route_objects.NAMESPACE, issued)
    for index in range(count):
        yield tls_secret_raw(secret_name(index), OTHER, issued)


def abroad(address: str, target: int) -> Iterator[Raw]:
    """Yield a Service that is lent, its only endpoint, and the route to it."""
    yield from route_objects.service(SERVICE, "10.96.0.110", address, target, OTHER)
    backend = {"name": SERVICE, "namespace": OTHER, "port": 80}
    yield {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "abroad", "namespace": route_objects.NAMESPACE},
        "spec": {
            "parentRefs": [{"name": route_objects.GATEWAY}],
            "hostnames": [ABROAD],
            "rules": [{"backendRefs": [backend]}],
        },
    }


def grant_of_secret(index: int) -> Raw:
    return _grant(secret_name(index), "Gateway", "Secret")


def grant_of_backend(_: int = 0) -> Raw:
    return _grant(SERVICE, "HTTPRoute", "Service")


def grants_path() -> str:
    """Return where the API server has the grants."""
    return f"/apis/{_GROUP}/v1/namespaces/{OTHER}/referencegrants"


def _grant(name: str, source: str, target: str) -> Raw:
    """Return the grant by which objects of kind *source* use *name*; it is called as that is."""
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ReferenceGrant",
        "metadata": {"name": name, "namespace": OTHER},
        "spec": {
            "from": [{"group": _GROUP, "kind": source, "namespace": route_objects.NAMESPACE}],
            "to": [{"group": "", "kind": target, "name": name}],
        },
    }


def _listener(name: str, port: int, hostname: str, certificate: Raw) -> Raw:
    tls = {"certificateRefs": [certificate]}
    return {"name": name, "port": port, "protocol": "HTTPS", "hostname": hostname, "tls": tls}
