"""What the official suite asks for since version 1.7, with the same outcome.

Source: Gateway API v1.7, conformance tests GatewaySecretInvalidReferenceGrant,
GatewayNameMaximumLength, MeshGRPCRouteRequestHeaderModifier, and those of
GatewayRouteHostnameIntersectionPrecedence. What it asks of requests is in tests/integration.
"""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from support import objects

OLDER, YOUNGER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    services = [
        thing
        for number, name in enumerate(("wide", "narrow"), 1)
        for thing in (
            objects.service(name, f"10.96.0.{number}"),
            objects.endpoint_slice(name, [f"10.244.0.{number}"]),
        )
    ]
    compiler.apply(objects.added([objects.gateway_class(), *services, *things]))
    assert compiler.failures == {}
    return compiler


def status(compiler: Compiler, thing: Object | Broken) -> dict[str, Any]:
    found = status_of(compiler.db, thing, lambda _: None)
    assert found is not None
    return found


def test_a_secret_of_another_namespace_is_not_told_of_without_a_grant() -> None:
    tls = {"certificateRefs": [{"name": "nowhere", "namespace": "certs"}]}
    gateway = objects.gateway(
        "front", [{"name": "https", "protocol": "HTTPS", "port": 443, "tls": tls}]
    )
    (listener,) = status(compiled(gateway), gateway)["listeners"]
    found = {one["type"]: one for one in listener["conditions"]}
    assert found["ResolvedRefs"]["reason"] == "RefNotPermitted"
    assert found["Programmed"]["status"] == "False"


def test_the_longest_name_that_a_gateway_may_have_works() -> None:
    gateway = objects.gateway(".".join(["a" * 63] * 3 + ["b" * 61]))
    assert isinstance(gateway, Object)
    assert len(gateway.metadata.name) == 253
    compiler = compiled(gateway)
    conditions = {one["type"]: one["status"] for one in status(compiler, gateway)["conditions"]}
    assert conditions == {"Accepted": "True", "Programmed": "True"}
    assert [one for one in compiler.resources("n1") if one.type_url == types.LISTENER]


def route(kind: str, name: str, hostname: str, since: str) -> Object | Broken:
    return objects.gateway_api(
        kind,
        name,
        {
            "parentRefs": [{"name": "front"}],
            "hostnames": [hostname],
            "rules": [{"backendRefs": [{"name": name, "port": 80}]}],
        },
        creationTimestamp=since,
    )


HOSTNAMES = pytest.mark.parametrize(
    ("listener", "wide", "narrow"),
    [
        ("a.example.test", "*.example.test", "a.example.test"),
        ("*.example.test", "*.test", "*.example.test"),
    ],
)
"""Of a listener and of two routes that have the same in common with it."""


def routes(kind: str, wide: str, narrow: str) -> list[Object | Broken]:
    return [route(kind, "wide", wide, OLDER), route(kind, "narrow", narrow, YOUNGER)]


@HOSTNAMES
@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_of_two_routes_the_one_with_the_narrower_hostname_of_its_own_goes_first(
    kind: str, listener: str, wide: str, narrow: str
) -> None:
    one = {"name": "http", "protocol": "HTTP", "port": 80, "hostname": listener}
    compiler = compiled(objects.gateway("front", [one]), *routes(kind, wide, narrow))
    scopes = [
        scoped_route_pb2.ScopedRouteConfiguration.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.SCOPE and one.name.startswith("gw|shop/front/80|")
    ]
    hosts = [
        [one.route.cluster for one in host.routes if one.route.cluster]
        for scope in scopes
        for host in scope.route_configuration.virtual_hosts
    ]
    assert [one for one in hosts if one] == [["gw|shop/narrow/80", "gw|shop/wide/80"]]


@HOSTNAMES
def test_the_same_holds_for_tls_where_the_other_one_gets_nothing(
    listener: str, wide: str, narrow: str
) -> None:
    one = {
        "name": "tls",
        "protocol": "TLS",
        "port": 443,
        "hostname": listener,
        "tls": {"mode": "Passthrough"},
    }
    compiler = compiled(objects.gateway("front", [one]), *routes("TLSRoute", wide, narrow))
    (made,) = [
        endpoint_pb2.ClusterLoadAssignment.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.ENDPOINTS and one.name.startswith("stream|")
    ]
    (only,) = made.endpoints[0].lb_endpoints
    assert only.endpoint.address.socket_address.address == "10.244.0.2"


def test_calls_of_pods_have_the_metadata_that_a_filter_sets_adds_and_removes() -> None:
    change = {
        "set": [{"name": "X-Set", "value": "one"}],
        "add": [{"name": "X-Add", "value": "two"}],
        "remove": ["X-Remove"],
    }
    thing = objects.gateway_api(
        "GRPCRoute",
        "calls",
        {
            "parentRefs": [objects.on_service("wide")],
            "rules": [
                {
                    "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": change}],
                    "backendRefs": [{"name": "narrow", "port": 80}],
                }
            ],
        },
    )
    compiler = compiled(thing)
    (parent,) = status(compiler, thing)["parents"]
    assert {one["status"] for one in parent["conditions"]} == {"True"}
    (scope,) = [
        scoped_route_pb2.ScopedRouteConfiguration.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.SCOPE and one.name == "eg|10.96.0.1:80"
    ]
    (made,) = [
        one
        for host in scope.route_configuration.virtual_hosts
        for one in host.routes
        if one.route.cluster
    ]
    written = {(one.header.key, one.header.value) for one in made.request_headers_to_add}
    assert made.route.cluster == "mesh|shop/narrow/80"
    assert written == {("x-set", "one"), ("x-add", "two")}
    assert list(made.request_headers_to_remove) == ["x-remove"]
