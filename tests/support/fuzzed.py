"""Worlds of objects that nobody would write, beside some that are good."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from penstock.compiler.kinds import KINDS
from penstock.core.kinds import ConfigMap, EndpointSlice, Secret, Service
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.fields import GATEWAY_GROUP
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import Gateway, HTTPRoute
from penstock.gatewayapi.routes import ROUTE_TYPES
from penstock.policy.resources import CiliumNetworkPolicy
from support import objects
from support.ingress_objects import ingress_class
from support.object_strategies import objects as documents
from support.pki import issue, tls_secret_raw

Json = dict[str, Any]
Things = list[Object | Broken]
_TLS = {"certificateRefs": [{"name": "cert"}]}
_OPEN = {"namespaces": {"from": "All"}}

GOOD: Things = [
    objects.gateway_class(),
    objects.made({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "app"},
        "spec": {"gatewayClassName": "penstock", "allowedListeners": _OPEN, "listeners": [
            {"name": "web", "protocol": "HTTP", "port": 8000, "allowedRoutes": _OPEN},
            {"name": "tls", "protocol": "HTTPS", "port": 8443, "tls": _TLS},
            {"name": "tcp", "protocol": "TCP", "port": 9000, "allowedRoutes": _OPEN},
            {"name": "udp", "protocol": "UDP", "port": 9000, "allowedRoutes": _OPEN},
            {"name": "sni", "protocol": "TLS", "port": 9443, "tls": {"mode": "Passthrough"}},
        ]},
    }),
    ingress_class(),
    objects.service("svc", "10.96.0.1", "app"),
    objects.endpoint_slice("svc", ["10.244.0.1"], "app"),
    objects.service("svc", "10.96.0.2", "data"),
    objects.http_route("good", parent={"name": "gw"}, backends=[("svc", 1)], namespace="app",
                       hostnames=["good.test"]),
    objects.made(tls_secret_raw("cert", "app", [issue("a.test")])),
]  # fmt: skip
"""Things of which each fuzzed world has all, and which no other object may harm."""
_UNSHAPED = {CiliumNetworkPolicy.kind}
"""Kinds with a fuzz of their own."""
_KNOWN: tuple[type[Object], ...] = (*KINDS, ConfigMap, Secret)
_FUZZED = (
    *(kind for kind in _KNOWN if kind.kind not in _UNSHAPED),
    *(4 * (*ROUTE_TYPES, HTTPRoute, Gateway, ListenerSet, Service, EndpointSlice)),
)
"""Those of which most comes are there more often."""


def some() -> st.SearchStrategy[Things]:
    """Return a few objects of any kinds, of which most can be read; no name twice."""
    kinds = st.sampled_from(_FUZZED).flatmap(documents)
    aimed = st.builds(_aimed, kinds, st.sampled_from((*_PARENTS, None)))
    return st.lists(aimed, min_size=1, max_size=8).map(_distinct)


_ON_SERVICE: Json = {"group": "", "kind": "Service", "name": "svc", "port": 80}
_PARENTS: tuple[Json, ...] = ({"name": "gw"}, _ON_SERVICE, {"name": "gw", "sectionName": "web"})


_SERVICE: Json = {"group": "", "kind": "Service", "name": "svc"}
_TARGETS: dict[str, Json] = {
    "BackendTLSPolicy": _SERVICE,
    "XBackendTrafficPolicy": _SERVICE,
    "XTelemetryPolicy": {"group": GATEWAY_GROUP, "kind": "Gateway", "name": "gw"},
}


def _aimed(raw: Json, parent: Json | None) -> Json:
    """Let an object concern what there is, most of the time, so that something comes of it."""
    spec = raw.get("spec")
    if parent is None or not isinstance(spec, dict):
        return raw
    kind = raw["kind"]
    if kind.endswith("Route"):
        spec["parentRefs"] = [parent]
        if kind in ("TCPRoute", "UDPRoute", "TLSRoute"):
            spec["parentRefs"] = [{"name": "gw"}, {"name": "a"}, {"name": "b"}, _ON_SERVICE]
    elif kind == "Gateway":
        spec["gatewayClassName"] = "penstock"
    elif kind == "ListenerSet":
        spec["parentRef"] = {"name": "gw"}
    elif kind in _TARGETS:
        spec["targetRefs"] = [_TARGETS[kind]]
        _told(spec.get("tracing"))
    elif kind == "Service":
        spec |= {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]}
    elif kind == "Ingress":
        spec["ingressClassName"] = "penstock"
    for index, listener in enumerate(_listeners(spec)):
        _mended(listener, index)
    return raw


def _told(tracing: Any) -> None:
    """Let traces, if there are any, go somewhere."""
    if isinstance(tracing, dict) and tracing.get("mode") == "Enabled":
        provider = tracing.get("provider")
        if isinstance(provider, dict):
            provider["backendRef"] = {"name": "svc", "port": 80}


def _listeners(spec: Json) -> list[Json]:
    found = spec.get("listeners")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _mended(listener: Json, index: int) -> None:
    """Let a listener have what its protocol asks for."""
    protocol = listener.get("protocol")
    listener["name"] = f"l{index}"
    if not isinstance(listener.get("port"), int) or not 0 < listener["port"] < 1 << 16:
        listener["port"] = 7000 + index
    if protocol == "HTTPS":
        listener["tls"] = _TLS
    elif protocol != "TLS":
        listener.pop("tls", None)
    if protocol in ("TCP", "UDP"):
        listener.pop("hostname", None)
        listener.pop("filters", None)


def _distinct(raws: list[Json]) -> Things:
    made = (objects.made(one) for one in raws)
    known = {one.ref for one in GOOD}
    return list({one.ref: one for one in made if one.ref not in known}.values())
