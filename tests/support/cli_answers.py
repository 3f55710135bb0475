"""What controller and agent would answer for a small shop."""

from __future__ import annotations

from typing import Any

FILE = "/shop/policy.yaml"
UID = "43bc3483-f8ab-c36c-c087-1589e5af8063"
PREFIX = "type.googleapis.com/envoy.config"
CLUSTER, LISTENER, SCOPE, ENDPOINTS = (
    f"{PREFIX}.cluster.v3.Cluster",
    f"{PREFIX}.listener.v3.Listener",
    f"{PREFIX}.route.v3.ScopedRouteConfiguration",
    f"{PREFIX}.endpoint.v3.ClusterLoadAssignment",
)
RUNTIME_TYPE = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
WORKLOAD = "type.googleapis.com/penstock.node.v1.Workload"


def condition(kind: str, *, status: str = "True", reason: str = "", message: str = "") -> Any:
    return {"type": kind, "status": status, "reason": reason or kind, "message": message}


def item(kind: str, name: str, spec: Any, status: Any, line: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": spec,
        "status": status,
        "location": {"file": FILE, "line": line},
    }


def route(name: str, *conditions: Any) -> dict[str, Any]:
    refs = [{"name": "orders-v1", "weight": 90}, {"name": "orders-v2", "weight": 10}]
    spec = {
        "parentRefs": [{"kind": "Service", "group": "", "name": "orders", "port": 80}],
        "rules": [{"backendRefs": refs}],
    }
    return item("HTTPRoute", name, spec, {"parents": [{"conditions": list(conditions)}]}, line=3)


GATEWAY = item(
    "Gateway",
    "shop",
    {"gatewayClassName": "penstock", "listeners": [{"name": "http", "port": 80}]},
    {
        "addresses": [{"type": "IPAddress", "value": "10.97.0.27"}],
        "conditions": [condition("Accepted"), condition("Programmed")],
        "listeners": [{"name": "http", "attachedRoutes": 2}],
    },
)
INGRESS = item(
    "Ingress",
    "web",
    {
        "ingressClassName": "penstock",
        "tls": [{"hosts": ["a.test"], "secretName": "a"}],
        "rules": [{"host": "a.test"}, {"host": "b.test"}, {"host": "a.test"}],
    },
    {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
)
PLAIN_INGRESS = item("Ingress", "plain", {"defaultBackend": {}}, {})
ROUTES = [
    route("canary", *map(condition, ("Accepted", "ResolvedRefs", "DataPlaneAcked"))),
    route(
        "lost",
        condition("Accepted"),
        condition(
            "ResolvedRefs",
            status="False",
            reason="BackendNotFound",
            message="spec.rules[0].backendRefs[0]: there is no Service shop/none",
        ),
        condition("DataPlaneAcked"),
    ),
]
PROBLEM = {
    "file": FILE,
    "line": 18,
    "column": 7,
    "ref": {"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "orders"},
    "path": "spec.ingress[0].rules",
    "message": "unknown field",
    "hint": "belongs inside toPorts[]",
    "severity": "error",
}


def meant(type_url: str, name: str, version: str = "1", *origins: str) -> dict[str, Any]:
    return {
        "type_url": type_url,
        "name": name,
        "version": version,
        "origins": list(origins),
        "acked": version,
        "rejected": None,
    }


def held(kind: str, name: str, version: str = "1", **more: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "intended": version, "acked": version} | more


INTENDED = [
    meant(CLUSTER, "app"),
    meant(CLUSTER, "mesh|shop/orders-v1/80", "1", "Service shop/orders-v1"),
    meant(CLUSTER, "mesh|shop/orders-v2/80", "1", "Service shop/orders-v2"),
    meant(ENDPOINTS, "mesh|shop/orders-v1/80", "1", "Service shop/orders-v1"),
    meant(LISTENER, f"{UID}/egress", "1", "Pod shop/frontend-0"),
    meant(LISTENER, "elsewhere/egress", "1", "Pod shop/other-0"),
    meant(SCOPE, "eg|10.101.35.47:80", "1", "HTTPRoute shop/canary spec.rules[0]"),
    meant(RUNTIME_TYPE, "penstock"),
    meant(WORKLOAD, UID, "1", "Pod shop/frontend-0"),
]
HELD = [
    held("Cluster", "app"),
    held("Cluster", "mesh|shop/orders-v1/80"),
    held("Cluster", "mesh|shop/orders-v2/80"),
    held("ClusterLoadAssignment", "mesh|shop/orders-v1/80"),
    held("Listener", f"{UID}/egress"),
    held("ScopedRouteConfiguration", "eg|10.101.35.47:80"),
    held("Runtime", "penstock"),
    held("Workload", UID),
]


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


_WEIGHTED = {
    "runtime_key_prefix": "route.shop/canary/0/0",
    "clusters": [
        {"name": "mesh|shop/orders-v1/80", "weight": 100},
        {"name": "mesh|shop/orders-v2/80", "weight": 0},
    ],
}
_SCOPE_BODY = {
    "name": "eg|10.101.35.47:80",
    "route_configuration": {
        "virtual_hosts": [
            {
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"weighted_clusters": _WEIGHTED}}],
            }
        ]
    },
}


def cluster(name: str, version: str = "1", kind: str = "EDS") -> dict[str, Any]:
    return {"version_info": version, "cluster": {"name": name, "type": kind}}


def config_dump() -> dict[str, Any]:
    """Return what Envoy's admin says when it runs what is meant."""
    admin = "type.googleapis.com/envoy.admin.v3"
    listener = {
        "address": address("127.0.0.1", 15001),
        "additional_addresses": [{"address": address("::1", 15001)}],
    }
    active = {"version_info": "1", "listener": listener}
    scopes = {"scoped_route_configs": [_SCOPE_BODY]}
    endpoints = [
        {"endpoint_config": {"cluster_name": n}} for n in ("app", "mesh|shop/orders-v1/80")
    ]
    return {
        "configs": [
            {
                "@type": f"{admin}.ClustersConfigDump",
                "static_clusters": [cluster("node-ads")],
                "dynamic_active_clusters": [
                    cluster("app", kind="ORIGINAL_DST"),
                    cluster("mesh|shop/orders-v1/80"),
                    cluster("mesh|shop/orders-v2/80"),
                ],
            },
            {
                "@type": f"{admin}.ListenersConfigDump",
                "dynamic_listeners": [{"name": f"{UID}/egress", "active_state": active}],
            },
            {
                "@type": f"{admin}.ScopedRoutesConfigDump",
                "dynamic_scoped_route_configs": [scopes, scopes],
            },
            {"@type": f"{admin}.EndpointsConfigDump", "dynamic_endpoint_configs": endpoints},
            {"@type": f"{admin}.BootstrapConfigDump"},
        ]
    }


RUNTIME = {
    "layers": ["penstock"],
    "entries": {
        "route.shop/canary/0/0.mesh|shop/orders-v1/80": {"layer_values": ["90"]},
        "route.shop/canary/0/0.mesh|shop/orders-v2/80": {"layer_values": ["10"]},
    },
}
CLUSTERS = {
    "cluster_statuses": [
        {
            "name": "mesh|shop/orders-v1/80",
            "host_statuses": [
                {
                    "address": address("10.244.87.129", 8080),
                    "weight": 1,
                    "health_status": {"eds_health_status": "HEALTHY"},
                    "stats": [
                        {"name": "rq_total", "value": "17"},
                        {"name": "rq_error", "value": "2"},
                    ],
                }
            ],
        },
        {"name": "node-ads", "host_statuses": [{"address": {"pipe": {"path": "x"}}}]},
    ]
}
LISTENERS = {
    "listener_statuses": [
        {
            "name": "gateway/shop/shop/80",
            "local_address": address("10.97.0.27", 80),
            "additional_local_addresses": [address("127.0.0.1", 8080)],
        },
        {"name": f"{UID}/egress", "local_address": address("127.0.0.1", 15001)},
    ]
}


def peer(pod: str, identity: int = 1000, port: int = 0, service: str = "") -> dict[str, Any]:
    return {
        "identity": identity,
        "namespace": "shop",
        "pod": pod,
        "address": "10.244.0.7",
        "port": port,
        "service": service,
    }


def flow(verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "time": 1_764_096_614.205,
        "node": "lab",
        "direction": 1,
        "verdict": verdict,
        "source": peer("frontend-0"),
        "destination": peer("orders-v1-0", port=8080),
        "protocol": "http/1.1",
    } | more


POLICY = "CiliumNetworkPolicy shop/orders spec.ingress[0].toPorts[0]"
FLOWS = [
    flow("FORWARDED", method="GET", path="/public", status=200, policies=[POLICY, "Default allow"]),
    flow(
        "DENIED",
        method="POST",
        path="/public",
        status=403,
        reason="rbac_access_denied_matched_policy[none]",
        policies=["CiliumNetworkPolicy shop/orders spec"],
    ),
    flow("REDIRECTED", protocol="tcp"),
    flow(
        "DENIED",
        protocol="tcp",
        source=peer("intruder-0"),
        destination={"identity": 2, "address": "fd96::1", "port": 80, "service": ""},
        reason="no rule allows it",
    ),
    flow("FORWARDED", method="GET", path="/", status=200, policies=["Default allow"]),
]


def controller() -> dict[str, Any]:
    return {
        "/v1/health": {
            "synced": True,
            "objects": 9,
            "problems": 1,
            "nodes": {"lab": {"connected": True}},
        },
        "/v1/objects": {
            "by query": {
                "kind=HTTPRoute": {"items": ROUTES},
                "kind=HTTPRoute&namespace=shop": {"items": ROUTES},
                "kind=Gateway": {"items": [GATEWAY]},
                "kind=Ingress": {"items": [INGRESS, PLAIN_INGRESS]},
                "kind=Pod": {"items": []},
            }
        },
        "/v1/problems": {"items": [PROBLEM]},
        "/v1/locate": {
            "by query": {
                "kind=CiliumNetworkPolicy&namespace=shop&name=orders"
                "&path=spec.ingress%5B0%5D.toPorts%5B0%5D": {"file": FILE, "line": 17},
                "kind=CiliumNetworkPolicy&namespace=shop&name=orders&path=spec": {
                    "file": FILE,
                    "line": 8,
                },
            }
        },
        "/v1/snapshot": {"node": "lab", "resources": INTENDED},
    }


def agent() -> dict[str, Any]:
    return {
        "/v1/status": {
            "node": "lab",
            "envoy": {"pid": 1, "state": "running", "restarts": 0},
            "envoy_connected": True,
            "controller_connected": True,
            "pods": [{"uid": UID, "namespace": "shop", "name": "frontend-0"}],
        },
        "/v1/snapshot": {"node": "lab", "resources": HELD},
        "/v1/envoy/config_dump": config_dump(),
        "/v1/envoy/runtime": RUNTIME,
        "/v1/envoy/clusters": CLUSTERS,
        "/v1/envoy/listeners": LISTENERS,
        "/v1/flows": FLOWS,
    }
