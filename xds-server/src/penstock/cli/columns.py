"""What `penstock get` shows of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.cli.answers import conditions_of, location_of
from penstock.status.data_plane import DATA_PLANE_ACKED

Item = dict[str, Any]
"""An object as Kubernetes writes it."""

UNKNOWN = "-"
KINDS = (
    "Namespace", "Service", "EndpointSlice", "Pod", "Deployment", "ConfigMap", "Secret",
    "ClusterTrustBundle", "Node",
    "GatewayClass", "Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute",
    "UDPRoute", "ReferenceGrant", "BackendTLSPolicy", "Ingress", "IngressClass",
    "CiliumNetworkPolicy", "XBackend", "XBackendTrafficPolicy", "XMesh",
    "XTelemetryPolicy",
)  # fmt: skip

ALIASES: Mapping[str, str] = {
    "cm": "ConfigMap",
    "cnp": "CiliumNetworkPolicy",
    "ciliumnetworkpolicies": "CiliumNetworkPolicy",
    "deploy": "Deployment",
    "endpointslice": "EndpointSlice",
    "eps": "EndpointSlice",
    "gatewayclasses": "GatewayClass",
    "gc": "GatewayClass",
    "gtw": "Gateway",
    "btlspolicy": "BackendTLSPolicy",
    "ing": "Ingress",
    "ingresses": "Ingress",
    "ingressclasses": "IngressClass",
    "lset": "ListenerSet",
    "gw": "Gateway",
    "no": "Node",
    "mesh": "XMesh",
    "ns": "Namespace",
    "po": "Pod",
    "policy": "CiliumNetworkPolicy",
    "xbtrafficpolicy": "XBackendTrafficPolicy",
    "telemetry": "XTelemetryPolicy",
    "refgrant": "ReferenceGrant",
    "route": "HTTPRoute",
    "svc": "Service",
}


class Column(msgspec.Struct, frozen=True):
    """A header and what stands below it."""

    header: str
    cell: Callable[[Item], str]
    wide: bool = False
    """Whether it is shown with `-o wide` only."""


def columns_of(kind: str) -> tuple[Column, ...]:
    """Return the columns of a kind, without namespace and name."""
    return (*_COLUMNS.get(kind, ()), Column("DEFINED IN", _location, wide=True))


def _spec(item: Item) -> Item:
    return item.get("spec") or {}


def _status(item: Item) -> Item:
    return item.get("status") or {}


def _condition(name: str) -> Callable[[Item], str]:
    def cell(item: Item) -> str:
        found = conditions_of(_status(item)).get(name)
        return found.status if found is not None else UNKNOWN

    return cell


def _message(item: Item) -> str:
    """Return why a condition is not True: the first one that is not only waiting for others."""
    wrong = [one for one in conditions_of(_status(item)).values() if not one.is_as_wanted]
    for found in sorted(wrong, key=lambda one: one.reason == "Pending"):
        text = "; ".join(line for line in found.message.splitlines() if line)
        return f"{found.reason}: {text}".rstrip(": ")
    return UNKNOWN


def _location(item: Item) -> str:
    place = location_of(item)
    return UNKNOWN if place is None else str(place)


def _joined(values: list[str]) -> str:
    return ",".join(values) or UNKNOWN


def _hostnames(item: Item) -> str:
    return ",".join(_spec(item).get("hostnames") or ["*"])


def _parents(item: Item) -> str:
    return _joined([_parent(one) for one in _spec(item).get("parentRefs") or []])


def _parent(reference: Item) -> str:
    kind = reference.get("kind") or "Gateway"
    section, port = reference.get("sectionName"), reference.get("port")
    return f"{kind}/{reference.get('name')}" + (
        f"/{section}" if section else f":{port}" if port else ""
    )


def _weights(item: Item) -> str:
    """Return the backends of the rules that split requests, with their weights."""
    rules = [rule.get("backendRefs") or [] for rule in _spec(item).get("rules") or []]
    return _joined(
        [
            " ".join(f"{ref.get('name')}={ref.get('weight', 1)}" for ref in refs)
            for refs in rules
            if len(refs) > 1
        ]
    )


def _gateway_ports(item: Item) -> str:
    ports = {one.get("port", 0) for one in _spec(item).get("listeners") or []}
    return _joined([str(port) for port in sorted(ports)])


def _gateway_address(item: Item) -> str:
    return _joined([str(one.get("value")) for one in _status(item).get("addresses") or []])


def _routes(item: Item) -> str:
    listeners = _status(item).get("listeners") or []
    return str(sum(one.get("attachedRoutes", 0) for one in listeners))


def _ingress_class(item: Item) -> str:
    notes = item["metadata"].get("annotations") or {}
    named = _spec(item).get("ingressClassName") or notes.get("kubernetes.io/ingress.class")
    return named or "<none>"


def _ingress_hosts(item: Item) -> str:
    """Return the hosts of the rules, as kubectl does: "*" if there is none."""
    hosts = [one.get("host") for one in _spec(item).get("rules") or []]
    return ",".join(dict.fromkeys(host for host in hosts if host)) or "*"


def _ingress_address(item: Item) -> str:
    balanced = _status(item).get("loadBalancer") or {}
    entries = balanced.get("ingress") or []
    return _joined([str(one.get("ip") or one.get("hostname")) for one in entries])


def _ingress_ports(item: Item) -> str:
    return "80, 443" if _spec(item).get("tls") else "80"


def _listener_set_parent(item: Item) -> str:
    return _parent(_spec(item).get("parentRef") or {})


def _policy_targets(item: Item) -> str:
    refs = _spec(item).get("targetRefs") or []
    return _joined([f"{one.get('kind')}/{one.get('name')}" for one in refs])


def _collector(item: Item) -> str:
    provider = (_spec(item).get("tracing") or {}).get("provider") or {}
    ref = provider.get("backendRef") or {}
    if not ref:
        return UNKNOWN
    namespace = f"{ref['namespace']}/" if ref.get("namespace") else ""
    port = f":{ref['port']}" if ref.get("port") else ""
    return f"{ref.get('kind', 'Service')}/{namespace}{ref.get('name')}{port}"


def _service_ports(item: Item) -> str:
    ports = _spec(item).get("ports") or []
    return _joined([f"{one.get('port')}/{one.get('protocol', 'TCP')}" for one in ports])


def _service_address(item: Item) -> str:
    spec, balanced = _spec(item), _status(item).get("loadBalancer") or {}
    outside = [str(one.get("ip")) for one in balanced.get("ingress") or [] if one.get("ip")]
    return _joined([*(spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]), *outside])


def _selector(item: Item) -> str:
    labels = _spec(item).get("selector") or {}
    labels = labels.get("matchLabels", labels) if isinstance(labels, dict) else {}
    return _joined([f"{name}={value}" for name, value in sorted(labels.items())])


def _subject(item: Item) -> str:
    labels = (_spec(item).get("endpointSelector") or {}).get("matchLabels") or {}
    return _joined([f"{name}={value}" for name, value in sorted(labels.items())])


def _pod_ready(item: Item) -> str:
    return conditions_of(_status(item))["Ready"].status if _has_ready(item) else "False"


def _has_ready(item: Item) -> bool:
    return "Ready" in conditions_of(_status(item))


def _pod_status(item: Item) -> str:
    if (item.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    status = _status(item)
    return status.get("reason") or status.get("phase") or "Pending"


def _pod_addresses(item: Item) -> str:
    return _joined([str(one.get("ip")) for one in _status(item).get("podIPs") or []])


def _endpoints(item: Item) -> str:
    found = [
        address for one in item.get("endpoints") or [] for address in one.get("addresses") or []
    ]
    shown = 4
    more = f" + {len(found) - shown} more" if len(found) > shown else ""
    return _joined(found[:shown]) + more


def _slice_ports(item: Item) -> str:
    return _joined([str(one.get("port", "*")) for one in item.get("ports") or []])


def _xbackend_place(item: Item) -> str:
    hostname = (_spec(item).get("externalHostname") or {}).get("hostname")
    return hostname or _subject(item)


def _keys(item: Item) -> str:
    names = {*(item.get("data") or {}), *(item.get("binaryData") or {})}
    return str(len(names | {*(item.get("stringData") or {})}))


_WHY = Column("WHY NOT", _message)

_ROUTE = (
    Column("HOSTNAMES", _hostnames),
    Column("PARENTS", _parents),
    Column("ACCEPTED", _condition("Accepted")),
    Column("RESOLVEDREFS", _condition("ResolvedRefs")),
    Column("PROGRAMMED", _condition(DATA_PLANE_ACKED)),
    Column("WEIGHTS", _weights, wide=True),
    _WHY,
)
_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "HTTPRoute": _ROUTE,
    "GRPCRoute": _ROUTE,
    "TLSRoute": _ROUTE,
    "TCPRoute": _ROUTE,
    "UDPRoute": _ROUTE,
    "Gateway": (
        Column("CLASS", lambda item: _spec(item).get("gatewayClassName") or UNKNOWN),
        Column("ADDRESS", _gateway_address),
        Column("PROGRAMMED", _condition("Programmed")),
        Column("PORTS", _gateway_ports),
        Column("ROUTES", _routes, wide=True),
        _WHY,
    ),
    "GatewayClass": (
        Column("CONTROLLER", lambda item: _spec(item).get("controllerName") or UNKNOWN),
        Column("ACCEPTED", _condition("Accepted")),
        _WHY,
    ),
    "XMesh": (
        Column("CONTROLLER", lambda item: _spec(item).get("controllerName") or UNKNOWN),
        Column("ACCEPTED", _condition("Accepted")),
        _WHY,
    ),
    "Ingress": (
        Column("CLASS", _ingress_class),
        Column("HOSTS", _ingress_hosts),
        Column("ADDRESS", _ingress_address),
        Column("PORTS", _ingress_ports),
    ),
    "IngressClass": (Column("CONTROLLER", lambda item: _spec(item).get("controller") or UNKNOWN),),
    "ListenerSet": (
        Column("PARENT", _listener_set_parent),
        Column("ACCEPTED", _condition("Accepted")),
        Column("PROGRAMMED", _condition("Programmed")),
        Column("PORTS", _gateway_ports),
        Column("ROUTES", _routes, wide=True),
        _WHY,
    ),
    "BackendTLSPolicy": (
        Column("TARGETS", _policy_targets),
        Column("ACCEPTED", _condition("Accepted")),
        Column("RESOLVEDREFS", _condition("ResolvedRefs")),
        _WHY,
    ),
    "XBackend": (
        Column("HOST OR LABELS", _xbackend_place),
        Column("PROTOCOL", lambda item: _spec(item).get("protocol") or UNKNOWN),
        Column("ACCEPTED", _condition("Accepted")),
        _WHY,
    ),
    "XBackendTrafficPolicy": (
        Column("TARGETS", _policy_targets),
        Column("ACCEPTED", _condition("Accepted")),
        _WHY,
    ),
    "XTelemetryPolicy": (
        Column("TARGETS", _policy_targets),
        Column("COLLECTOR", _collector),
        Column("ACCEPTED", _condition("Accepted")),
        Column("RESOLVEDREFS", _condition("ResolvedRefs")),
        _WHY,
    ),
    "CiliumNetworkPolicy": (
        Column("SELECTS", _subject),
        Column("VALID", _condition("Valid")),
        Column("PROGRAMMED", _condition(DATA_PLANE_ACKED), wide=True),
        _WHY,
    ),
    "Pod": (
        Column("READY", _pod_ready),
        Column("STATUS", _pod_status),
        Column("ADDRESSES", _pod_addresses),
        Column("NODE", lambda item: _spec(item).get("nodeName") or UNKNOWN, wide=True),
    ),
    "Service": (
        Column("TYPE", lambda item: _spec(item).get("type") or "ClusterIP"),
        Column("ADDRESSES", _service_address),
        Column("PORTS", _service_ports),
        Column("SELECTOR", _selector, wide=True),
    ),
    "Deployment": (
        Column("REPLICAS", lambda item: str(_spec(item).get("replicas", 1))),
        Column("SELECTOR", _selector),
    ),
    "EndpointSlice": (
        Column("FAMILY", lambda item: item.get("addressType") or UNKNOWN),
        Column("PORTS", _slice_ports),
        Column("ENDPOINTS", _endpoints),
    ),
    "ConfigMap": (Column("KEYS", _keys),),
    "Secret": (Column("KEYS", _keys),),
    "ClusterTrustBundle": (
        Column("SIGNER", lambda item: _spec(item).get("signerName") or UNKNOWN),
    ),
}
