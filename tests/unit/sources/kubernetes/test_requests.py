"""What is asked of an API server."""

from __future__ import annotations

import pytest

from penstock.compiler.kinds import KINDS
from penstock.sources.kubernetes.requests import ListRequest, Scope, WatchRequest, resource_of

WATCH = "watch=1&allowWatchBookmarks=true&timeoutSeconds=300"


def test_kinds_have_their_names_in_urls() -> None:
    assert {kind.kind: resource_of(kind.kind) for kind in KINDS} == {
        "BackendTLSPolicy": "backendtlspolicies",
        "CiliumNetworkPolicy": "ciliumnetworkpolicies",
        "EndpointSlice": "endpointslices",
        "Gateway": "gateways",
        "GatewayClass": "gatewayclasses",
        "GRPCRoute": "grpcroutes",
        "HTTPRoute": "httproutes",
        "Ingress": "ingresses",
        "IngressClass": "ingressclasses",
        "ListenerSet": "listenersets",
        "Namespace": "namespaces",
        "Node": "nodes",
        "Pod": "pods",
        "ReferenceGrant": "referencegrants",
        "Service": "services",
        "CustomResourceDefinition": "customresourcedefinitions",
        "ServiceCIDR": "servicecidrs",
        "TCPRoute": "tcproutes",
        "TLSRoute": "tlsroutes",
        "UDPRoute": "udproutes",
        "XBackend": "xbackends",
        "XBackendTrafficPolicy": "xbackendtrafficpolicies",
        "XMesh": "xmeshes",
        "XTelemetryPolicy": "xtelemetrypolicies",
    }


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        (ListRequest("v1", "pods", 0), "/api/v1/pods"),
        (ListRequest("v1", "pods", 500, "a+b="), "/api/v1/pods?limit=500&continue=a%2Bb%3D"),
        (
            WatchRequest("apps/v1", "deployments", "7", 300),
            f"/apis/apps/v1/deployments?{WATCH}&resourceVersion=7",
        ),
        (
            WatchRequest("v1", "pods", "", 300),
            f"/api/v1/pods?{WATCH}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        ),
        (
            ListRequest("v1", "pods", 0, scope=Scope(fields="spec.nodeName=n1")),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1",
        ),
        (
            WatchRequest("v1", "secrets", "7", 300, Scope(namespace="shop", labels="a=b")),
            f"/api/v1/namespaces/shop/secrets?{WATCH}&resourceVersion=7&labelSelector=a%3Db",
        ),
    ],
)
def test_targets(request_: ListRequest | WatchRequest, target: str) -> None:
    assert request_.target == target
