"""Objects for tests, from short YAML-like dicts through the strict decoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.controlplane.kinds import known_kinds
from penstock.core.decode import decode
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object

KIND_BY_NAME = {kind.kind: kind for kind in known_kinds().values()}
CONTROLLER = "penstock.dev/gateway-controller"
GATEWAY_API = "gateway.networking.k8s.io/v1"
X_GROUP = "gateway.networking.x-k8s.io"
XBACKENDS = frozenset({"outside", "picked"})
"""Names that mean XBackends where others mean Services."""


def made(raw: dict[str, Any]) -> Object | Broken:
    """Decode one object; uid and generation are filled in as a source would."""
    kind = KIND_BY_NAME[raw["kind"]]
    meta = raw["metadata"]
    name = f"{raw['kind']}/{meta.get('namespace', '')}/{meta['name']}"
    return decode(kind, {**raw, "metadata": {"uid": f"uid-{name}", "generation": 1, **meta}})


def gateway_api_raw(
    kind: str, name: str, spec: dict[str, Any], namespace: str = "shop", **metadata: Any
) -> dict[str, Any]:
    """Return an object of Gateway API as an API server has it; namespace "" is none."""
    placed = {"namespace": namespace} if namespace else {}
    head = {"name": name, **placed, **metadata}
    return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": head, "spec": spec}


def gateway_api(
    kind: str, name: str, spec: dict[str, Any], namespace: str = "shop", **metadata: Any
) -> Object | Broken:
    """Return the same, decoded."""
    return made(gateway_api_raw(kind, name, spec, namespace, **metadata))


def added(objects: Iterable[Object | Broken]) -> list[Event]:
    """Return an ADDED event for each object."""
    return [Event(EventType.ADDED, one) for one in objects]


def pod(
    name: str,
    ip: str,
    labels: dict[str, str],
    namespace: str = "shop",
    node: str = "n1",
    *,
    ready: bool = True,
    unheard: bool = False,
    gate: bool | None = None,
    **metadata: Any,
) -> Object | Broken:
    """Return a Pod.

    Args:
        name: of the pod.
        ip: "" while it has none.
        labels: of the pod.
        namespace: of the pod.
        node: where it runs.
        ready: the condition Ready.
        unheard: the node controller misses its node, so it is not Ready.
        gate: the condition of its readiness gate; None is without one.
        metadata: more of it.
    """
    said = {"Ready": ready and not unheard, "ContainersReady": ready or unheard}
    gates = {} if gate is None else {"readinessGates": [{"conditionType": "example.com/lb"}]}
    said |= {} if gate is None else {"example.com/lb": gate}
    running = {
        "podIPs": [{"ip": ip}],
        "phase": "Running",
        "conditions": [{"type": kind, "status": str(value)} for kind, value in said.items()],
    }
    return made(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, **metadata},
            "spec": {
                "nodeName": node,
                **gates,
                "containers": [
                    {
                        "name": "app",
                        "image": "app",
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }
                ],
            },
            "status": running if ip else {"phase": "Pending"},
        }
    )


def node(name: str, ip: str, *, ready: bool = True, since: str = "") -> Object | Broken:
    """Return a Node that has been Ready, or not, *since* then."""
    moment = {"lastTransitionTime": since} if since else {}
    return made(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": ip}],
                "conditions": [{"type": "Ready", "status": str(ready), **moment}],
            },
        }
    )


def service(
    name: str,
    ip: str,
    namespace: str = "shop",
    port: int = 80,
    app_protocol: str = "",
    *,
    udp: bool = False,
    **more_spec: Any,
) -> Object | Broken:
    """Return a Service with a port of TCP, and with *udp* one of UDP with the same number."""
    spec: dict[str, Any] = {"name": "http", "port": port, "targetPort": 8080}
    if app_protocol:
        spec["appProtocol"] = app_protocol
    more = [{"name": "udp", "protocol": "UDP", "port": port, "targetPort": 8080}] if udp else []
    return made(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [spec, *more], **more_spec},
        }
    )


def balanced(
    name: str,
    ip: str,
    namespace: str = "shop",
    *,
    status: Iterable[str] = (),
    since: str = "",
    **spec: Any,
) -> Object | Broken:
    """Return a Service of type LoadBalancer; *status* are the addresses it has already."""
    port = {"name": "http", "port": 80, "targetPort": 8080}
    return made(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": since},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": ip,
                "clusterIPs": [ip],
                "ports": [port],
                **spec,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": one} for one in status]}},
        }
    )


def endpoint_slice(
    service_name: str,
    ips: Iterable[str],
    namespace: str = "shop",
    *,
    ready: bool = True,
    port: int = 8080,
    udp: bool = False,
    on: Mapping[str, str] | None = None,
    hints: Mapping[str, Any] | None = None,
    pods: Mapping[str, str] | None = None,
    managed_by: str = "",
    suffix: str = "v4",
) -> Object | Broken:
    """Return the endpoints of a Service.

    Args:
        service_name: also the beginning of its own.
        ips: of the endpoints.
        namespace: of both.
        ready: whether they are.
        port: of the endpoints.
        udp: also a port of UDP with this number.
        on: address → node of those whose node is known.
        hints: of each endpoint.
        pods: address → pod of those that say which.
        managed_by: who writes it, if that is said.
        suffix: end of its own name.
    """
    nodes, hinted = on or {}, {} if hints is None else {"hints": hints}
    managed = {"endpointslice.kubernetes.io/managed-by": managed_by} if managed_by else {}
    behind = {ip: {"kind": "Pod", "name": name} for ip, name in (pods or {}).items()}
    endpoints = [
        {
            "addresses": [ip],
            "conditions": {"ready": ready},
            **({"nodeName": nodes[ip]} if ip in nodes else {}),
            **({"targetRef": behind[ip]} if ip in behind else {}),
            **hinted,
        }
        for ip in ips
    ]
    more = [{"name": "udp", "port": port, "protocol": "UDP"}] if udp else []
    return made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service_name}-{suffix}",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service_name, **managed},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}, *more],
            "endpoints": endpoints,
        }
    )


def backend_ref(name: str, weight: int = 1) -> dict[str, Any]:
    """Return a backendRef to a Service, or to one of the two XBackends."""
    if name not in XBACKENDS:
        return {"name": name, "port": 80, "weight": weight}
    return {"group": X_GROUP, "kind": "XBackend", "name": name, "weight": weight}


def xbackend(
    name: str, place: str | dict[str, str], namespace: str = "shop", port: int = 80, **spec: Any
) -> Object | Broken:
    """Return an XBackend of a hostname, or of pods with labels."""
    kind, member = (
        ("ExternalHostname", {"hostname": place})
        if isinstance(place, str)
        else ("EndpointSelector", {"matchLabels": place})
    )
    where = {kind[0].lower() + kind[1:]: member, "port": {"number": port}}
    return made(
        {
            "apiVersion": f"{X_GROUP}/v1alpha1",
            "kind": "XBackend",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"type": kind, **where, **spec},
        }
    )


def http_route(
    name: str,
    *,
    parent: dict[str, Any],
    backends: Iterable[tuple[str, int]] = (),
    namespace: str = "shop",
    hostnames: Iterable[str] = (),
    path: str = "/",
    session: dict[str, Any] | None = None,
    copies: Iterable[str] = (),
    rewritten: str = "",
    retry: dict[str, Any] | None = None,
) -> Object | Broken:
    """Return a route of one rule; *rewritten* is the prefix that the first backend sees."""
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": path}}],
        "backendRefs": [backend_ref(n, w) for n, w in backends],
    }
    if rewritten and rule["backendRefs"]:
        path_change = {"type": "ReplacePrefixMatch", "replacePrefixMatch": rewritten}
        rewrite = {"type": "URLRewrite", "urlRewrite": {"path": path_change}}
        rule["backendRefs"][0]["filters"] = [rewrite]
    if session is not None:
        rule["sessionPersistence"] = session
    if retry is not None:
        rule["retry"] = retry
    if copies:
        rule["filters"] = [
            {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": n, "port": 80}}}
            for n in copies
        ]
    spec: dict[str, Any] = {"parentRefs": [parent], "rules": [rule]}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    return made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
    )


def on_service(name: str, namespace: str | None = None) -> dict[str, Any]:
    parent: dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80}
    if namespace is not None:
        parent["namespace"] = namespace
    return parent


def gateway_class(name: str = "penstock", controller: str = CONTROLLER) -> Object | Broken:
    return made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": controller},
        }
    )


def gateway(
    name: str,
    listeners: Iterable[dict[str, Any]] = (),
    namespace: str = "shop",
    *,
    addresses: Iterable[dict[str, Any]] = (),
    status: Iterable[str] = (),
    since: str = "",
) -> Object | Broken:
    """Return a Gateway; *addresses* are those it asks for, *status* those it has already."""
    given = list(listeners) or [{"name": "http", "protocol": "HTTP", "port": 80}]
    spec = {"gatewayClassName": "penstock", "listeners": given, "addresses": list(addresses)}
    return made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": since},
            "spec": spec,
            "status": {"addresses": [{"type": "IPAddress", "value": one} for one in status]},
        }
    )


def generated_service(
    gateway: str,
    node_port: int = 0,
    given: Iterable[str] = (),
    label: str = "",
    kind: str = "LoadBalancer",
) -> Object | Broken:
    """Return the Service of a Gateway as a server has it; *label* says for which one it is."""
    number = {"nodePort": node_port} if kind == "LoadBalancer" else {}
    return made(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": f"{gateway}-penstock",
                "namespace": "shop",
                "uid": f"service-{gateway}",
                "labels": {"penstock.dev/generated-for": label} if label else {},
            },
            "spec": {
                "type": kind,
                "clusterIP": "10.96.0.200" if gateway == "gw" else "10.96.0.201",
                "ports": [{"name": "tcp-80", "port": 80, "protocol": "TCP"} | number],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": one} for one in given]}},
        }
    )


def generated_slice(gateway: str, port: int, address: str = "10.244.0.9") -> Object | Broken:
    """Return where the Service of a Gateway leads to for port 80."""
    return made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{gateway}-penstock-ipv4",
                "namespace": "shop",
                "labels": {
                    "penstock.dev/generated-for": gateway,
                    "kubernetes.io/service-name": f"{gateway}-penstock",
                },
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "tcp-80", "port": port, "protocol": "TCP"}],
        }
    )


def service_cidr(*networks: str, name: str = "kubernetes") -> Object | Broken:
    """Return the networks of which Services get their addresses."""
    return made(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": name},
            "spec": {"cidrs": list(networks)},
        }
    )


def policy(name: str, spec: dict[str, Any], namespace: str = "shop") -> Object | Broken:
    return made(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
    )
