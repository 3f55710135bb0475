"""Objects of Gateway API for tests, written as short as the test's point allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from penstock.core.decode import decode
from penstock.core.kinds import Service
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.grants import permits_of
from penstock.gatewayapi.resources import Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName

Json = dict[str, Any]
T = TypeVar("T", bound=Object)
API = "gateway.networking.k8s.io/v1"


def raw(kind: str, name: str, namespace: str = "", **metadata: Any) -> Json:
    api = "v1" if kind == "Service" else API
    head: Json = {"name": name, **metadata}
    if namespace:
        head["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": head}


def http_route_raw(
    name: str = "route",
    namespace: str = "app",
    *,
    parents: Sequence[Json] = ({"name": "gw"},),
    hostnames: Sequence[str] = (),
    rules: Sequence[Json] | None = None,
    created: str = "2026-01-01T00:00:00Z",
) -> Json:
    spec: Json = {"parentRefs": list(parents), "hostnames": list(hostnames)}
    if rules is not None:
        spec["rules"] = list(rules)
    meta = raw("HTTPRoute", name, namespace, creationTimestamp=created, generation=7)
    return {**meta, "spec": spec}


def http_route(name: str = "route", namespace: str = "app", **spec: Any) -> HTTPRoute:
    return _decoded(HTTPRoute, http_route_raw(name, namespace, **spec))


def broken_route(name: str = "route", namespace: str = "app", **spec: Any) -> Broken:
    decoded = decode(HTTPRoute, http_route_raw(name, namespace, **spec))
    assert isinstance(decoded, Broken)
    return decoded


def gateway(*listeners: Json, name: str = "gw", namespace: str = "app", **spec: Any) -> Gateway:
    body = {"gatewayClassName": "penstock", "listeners": list(listeners), **spec}
    return _decoded(Gateway, {**raw("Gateway", name, namespace, generation=3), "spec": body})


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Json:
    return {"name": name, "port": port, "protocol": protocol, **more}


def from_namespaces(value: str, **labels: str) -> Json:
    rule: Json = {"from": value}
    if labels:
        rule["selector"] = {"matchLabels": labels}
    return {"namespaces": rule}


def gateway_class(controller: str = "penstock.dev/gateway-controller", **spec: Any) -> GatewayClass:
    body = {"controllerName": controller, **spec}
    return _decoded(GatewayClass, {**raw("GatewayClass", "c", generation=2), "spec": body})


def service(name: str, namespace: str = "app", *ports: int | Json, **spec: Any) -> Service:
    written = [
        {"name": f"p{port}", "port": port} if isinstance(port, int) else port
        for port in ports or (80,)
    ]
    body = {"clusterIP": "10.0.0.1", "ports": written, **spec}
    return _decoded(Service, {**raw("Service", name, namespace), "spec": body})


def grant(namespace: str, source: str, *names: str, kind: str = "HTTPRoute") -> ReferenceGrant:
    to: list[Json] = [{"group": "", "kind": "Service", "name": name} for name in names]
    spec = {
        "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": source}],
        "to": to or [{"group": "", "kind": "Service"}],
    }
    return _decoded(ReferenceGrant, {**raw("ReferenceGrant", "grant", namespace), "spec": spec})


def secret_grant(
    namespace: str,
    source: str,
    *names: str,
    kind: str = "Gateway",
    group: str = "gateway.networking.k8s.io",
    to_kind: str = "Secret",
    to_group: str = "",
) -> ReferenceGrant:
    to: list[Json] = [{"group": to_group, "kind": to_kind, "name": name} for name in names]
    spec = {
        "from": [{"group": group, "kind": kind, "namespace": source}],
        "to": to or [{"group": to_group, "kind": to_kind}],
    }
    return _decoded(ReferenceGrant, {**raw("ReferenceGrant", "grant", namespace), "spec": spec})


def references(
    *services: Service, grants: Iterable[ReferenceGrant] = (), mesh: bool = False
) -> References:
    by_name: Mapping[NamespacedName, Service] = {one.key: one for one in services}
    return References(
        service=by_name.get,
        permits=permits_of(grants),
        mesh=mesh,
    )


def condition(conditions: Iterable[Condition], name: str) -> Condition:
    found = [one for one in conditions if one.type == name]
    assert len(found) == 1, f"{name} is {len(found)} times among the conditions"
    return found[0]


def _decoded(kind: type[T], document: Json) -> T:
    decoded = decode(kind, document)
    assert isinstance(decoded, kind), getattr(decoded, "problems", decoded)
    return decoded
