"""Kinds are decoded strictly, with defaults, and say where they are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.decode import decode, examine
from penstock.core.objects import Broken
from penstock.gatewayapi.filters import HTTPRequestRedirectFilter
from penstock.gatewayapi.resources import (
    FromNamespaces,
    Gateway,
    GatewayClass,
    HTTPRoute,
    ReferenceGrant,
)
from penstock.gatewayapi.rules import PathMatchType, StringMatchType
from support.gateway_objects import (
    Json,
    from_namespaces,
    gateway,
    http_route,
    http_route_raw,
    listener,
    raw,
)

PREFIX = {"path": {"value": "/a"}}
SERVICE = {"name": "svc", "port": 80}


def problem_paths(kind: Any, document: Json) -> list[str]:
    decoded = decode(kind, document)
    return [one.path for one in decoded.problems] if isinstance(decoded, Broken) else []


def rule_problems(**rule: Any) -> list[str]:
    prefix = "spec.rules[0]."
    paths = problem_paths(HTTPRoute, http_route_raw(rules=[rule]))
    return [path.removeprefix(prefix) for path in paths]


def test_defaults_are_those_of_the_crd() -> None:
    route = http_route(
        rules=[
            {
                "matches": [{"headers": [{"name": "a", "value": "b"}]}],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {}}],
                "backendRefs": [SERVICE],
            }
        ]
    )
    (rule,) = route.spec.rules
    assert (rule.matches[0].path.type, rule.matches[0].path.value) == (
        PathMatchType.PATH_PREFIX,
        "/",
    )
    assert rule.matches[0].headers[0].type is StringMatchType.EXACT
    assert rule.filters[0].request_redirect == HTTPRequestRedirectFilter(status_code=302)
    backend = rule.backend_refs[0]
    assert (backend.group, backend.kind, backend.weight) == ("", "Service", 1)
    parent = route.spec.parent_refs[0]
    assert (parent.group, parent.kind) == ("gateway.networking.k8s.io", "Gateway")


def test_route_without_rules_has_one_that_matches_everything() -> None:
    (rule,) = http_route().spec.rules
    assert [match.path.value for match in rule.matches] == ["/"]
    assert rule.backend_refs == ()


def test_listener_admits_its_own_namespace_by_default() -> None:
    namespaces = gateway(listener()).spec.listeners[0].allowed_routes.namespaces
    assert namespaces.from_ is FromNamespaces.SAME


def test_misspelt_field_is_an_error_with_a_hint() -> None:
    document = http_route_raw(rules=[{"backendRefs": [{"name": "a", "port": 1, "wieght": 9}]}])
    decoded = decode(HTTPRoute, document)
    assert isinstance(decoded, Broken)
    assert [str(one) for one in decoded.problems] == [
        "spec.rules[0].backendRefs[0].wieght: unknown field; did you mean weight?"
    ]


@pytest.mark.parametrize(
    ("rule", "paths"),
    [
        ({"matches": [{"path": {"value": "a"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a//b"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a/../b"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a/.."}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a%2fb"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a%4"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a b"}}]}, ["matches[0].path.value"]),
        ({"matches": [{"path": {"value": "/a%20b~"}}]}, []),
        ({"matches": [{"path": {"type": "RegularExpression", "value": "a b"}}]}, []),
        ({"matches": [{"path": {"type": "Prefix", "value": "/"}}]}, ["matches[0].path.type"]),
        ({"matches": [{"method": "FETCH"}]}, ["matches[0].method"]),
        (
            {"matches": [{"headers": [{"name": "a b", "value": "c"}]}]},
            ["matches[0].headers[0].name"],
        ),
        (
            {"matches": [{"headers": [{"name": "a", "value": "c\n"}]}]},
            ["matches[0].headers[0].value"],
        ),
        ({"matches": [PREFIX] * 65}, ["matches"]),
        ({"backendRefs": [{"name": "a", "port": 0}]}, ["backendRefs[0].port"]),
        ({"backendRefs": [{**SERVICE, "weight": 1_000_001}]}, ["backendRefs[0].weight"]),
        ({"backendRefs": [{**SERVICE, "weight": -1}]}, ["backendRefs[0].weight"]),
        ({"timeouts": {"request": "0"}}, ["timeouts.request"]),
        ({"timeouts": {"request": "1.5s"}}, ["timeouts.request"]),
        ({"timeouts": {"request": "1h30m5s10ms"}}, []),
        ({"filters": [{"type": "Mirror"}]}, ["filters[0].type"]),
        ({"filters": [{"type": "URLRewrite"}]}, ["filters[0].urlRewrite"]),
        (
            {"filters": [{"type": "CORS", "cors": {}, "urlRewrite": {}}]},
            ["filters[0].urlRewrite"],
        ),
        (
            {
                "filters": [
                    {
                        "type": "URLRewrite",
                        "urlRewrite": {
                            "path": {"type": "ReplaceFullPath", "replacePrefixMatch": "/"}
                        },
                    }
                ]
            },
            [
                "filters[0].urlRewrite.path.replaceFullPath",
                "filters[0].urlRewrite.path.replacePrefixMatch",
            ],
        ),
        (
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 304}}]},
            ["filters[0].requestRedirect.statusCode"],
        ),
        (
            {"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "ftp"}}]},
            ["filters[0].requestRedirect.scheme"],
        ),
        ({"retry": {"codes": [399]}}, ["retry.codes[0]"]),
        (
            {"sessionPersistence": {"type": "Header", "cookie": {}, "cookieConfig": {}}},
            ["sessionPersistence.cookie", "sessionPersistence.cookieConfig"],
        ),
        ({"sessionPersistence": {"header": {"name": "x"}}}, ["sessionPersistence.header"]),
        (
            {"sessionPersistence": {"cookie": {"lifetimeType": "Permanent"}}},
            ["sessionPersistence.absoluteTimeout"],
        ),
    ],
)
def test_rule_outside_the_schema_names_the_place(rule: Json, paths: list[str]) -> None:
    assert rule_problems(**rule) == paths


FILTERS: list[Json] = [
    {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": SERVICE, "fraction": {"numerator": 1}},
    },
    {
        "type": "CORS",
        "cors": {
            "allowOrigins": ["https://*.a.test", "http://b.test:8080"],
            "allowCredentials": True,
            "allowMethods": ["GET", "PUT"],
            "allowHeaders": ["x-a"],
            "exposeHeaders": ["x-b"],
            "maxAge": 60,
        },
    },
    {
        "type": "ExternalAuth",
        "externalAuth": {
            "protocol": "HTTP",
            "backendRef": SERVICE,
            "http": {"path": "/auth", "allowedHeaders": ["a"], "allowedResponseHeaders": ["b"]},
            "forwardBody": {"maxSize": 1024},
        },
    },
    {"type": "ExtensionRef", "extensionRef": {"group": "a.test", "kind": "K", "name": "n"}},
]


@pytest.mark.parametrize("given", FILTERS, ids=lambda given: given["type"])
def test_filter_of_a_later_step_is_decoded_in_full(given: Json) -> None:
    assert rule_problems(filters=[given]) == []


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"type": "CORS", "cors": {"allowOrigins": ["*", "http://a"]}}, "cors.allowOrigins"),
        ({"type": "CORS", "cors": {"allowOrigins": ["ftp://a"]}}, "cors.allowOrigins[0]"),
        (
            {
                "type": "RequestMirror",
                "requestMirror": {
                    "backendRef": SERVICE,
                    "percent": 5,
                    "fraction": {"numerator": 5},
                },
            },
            "requestMirror.fraction",
        ),
        (
            {
                "type": "RequestMirror",
                "requestMirror": {
                    "backendRef": SERVICE,
                    "fraction": {"numerator": 5, "denominator": 4},
                },
            },
            "requestMirror.fraction.numerator",
        ),
        (
            {"type": "ExternalAuth", "externalAuth": {"protocol": "GRPC", "backendRef": SERVICE}},
            "externalAuth.grpc",
        ),
    ],
)
def test_filter_of_a_later_step_is_checked(given: Json, path: str) -> None:
    assert rule_problems(filters=[given]) == [f"filters[0].{path}"]


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"hostnames": ["A.test"]}, ["spec.hostnames[0]"]),
        ({"hostnames": ["*"]}, ["spec.hostnames[0]"]),
        ({"hostnames": ["a.*.test"]}, ["spec.hostnames[0]"]),
        ({"hostnames": ["a.test\n"]}, ["spec.hostnames[0]"]),
        ({"hostnames": [f"h{n}.test" for n in range(17)]}, ["spec.hostnames"]),
        ({"rules": []}, ["spec.rules"]),
        ({"rules": [{"matches": [PREFIX] * 64}] * 3}, ["spec.rules"]),
        ({"rules": [{"name": "a"}, {"name": "a"}]}, ["spec.rules"]),
        ({"parents": [{"name": "a"}, {"name": "a"}]}, ["spec.parentRefs[1]"]),
        (
            {"parents": [{"name": "a"}, {"name": "a", "sectionName": "s"}]},
            ["spec.parentRefs[1]"],
        ),
        (
            {"parents": [{"name": "a", "sectionName": "t"}, {"name": "a", "sectionName": "s"}]},
            [],
        ),
    ],
)
def test_route_outside_the_schema_names_the_place(spec: Json, paths: list[str]) -> None:
    assert problem_paths(HTTPRoute, http_route_raw(**spec)) == paths


def gateway_paths(*listeners: Json, **spec: Any) -> list[str]:
    body = {"gatewayClassName": "c", "listeners": list(listeners), **spec}
    return problem_paths(Gateway, {**raw("Gateway", "g", "app"), "spec": body})


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (listener(tls={"certificateRefs": [{"name": "c"}]}), "tls"),
        (listener(protocol="HTTPS", tls={"mode": "Passthrough"}), "tls.mode"),
        (listener(protocol="HTTPS", tls={}), "tls.certificateRefs"),
        (listener(protocol="TLS"), "tls"),
        (listener(protocol="TCP", hostname="a.test"), "hostname"),
        (listener(protocol="TCP", filters={}), "filters"),
        (listener(port=70000), "port"),
        (listener(hostname="a b"), "hostname"),
        (listener(allowedRoutes=from_namespaces("None")), "allowedRoutes.namespaces.from"),
    ],
)
def test_listener_outside_the_schema_names_the_place(given: Json, path: str) -> None:
    assert gateway_paths(given) == [f"spec.listeners[0].{path}"]


def test_gateway_outside_the_schema_names_the_place() -> None:
    assert gateway_paths() == ["spec.listeners"]
    assert gateway_paths(listener(), listener(port=81)) == ["spec.listeners[1]"]
    addresses = [{"value": "192.0.2.1"}, {"value": "192.0.2.1"}]
    assert gateway_paths(listener(), addresses=addresses) == ["spec.addresses[1]"]
    reach = [{"routability": "k8s.io/x"}]
    assert gateway_paths(listener(), addresses=reach) == ["spec.addresses[0].routability"]


def test_gateway_with_every_field_is_decoded() -> None:
    validation = {
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
        "mode": "AllowInsecureFallback",
    }
    paths = gateway_paths(
        listener(filters={"requests": [FILTERS[2]]}),
        addresses=[{"type": "IPAddress", "value": "192.0.2.1", "routability": "Cluster"}],
        infrastructure={"labels": {"a": "b"}, "annotations": {"c": "d"}},
        allowedListeners={"namespaces": {"from": "All"}},
        tls={
            "backend": {"clientCertificateRef": {"name": "c"}},
            "frontend": {
                "default": {"validation": validation},
                "perPort": [{"port": 443, "tls": {"validation": validation}}],
            },
        },
        defaultScope="All",
    )
    assert paths == []


def test_grant_needs_both_sides() -> None:
    document = {**raw("ReferenceGrant", "g", "app"), "spec": {"from": [], "to": []}}
    assert problem_paths(ReferenceGrant, document) == ["spec.from", "spec.to"]


def test_controller_name_must_have_a_domain() -> None:
    document = {**raw("GatewayClass", "c"), "spec": {"controllerName": "penstock"}}
    assert problem_paths(GatewayClass, document) == ["spec.controllerName"]


def test_header_value_of_the_exponential_kind_is_judged_at_once() -> None:
    value = "a" * 4000 + "\x01"
    match = {"headers": [{"name": "a", "value": value}]}
    assert rule_problems(matches=[match]) == ["matches[0].headers[0].value"]


def test_status_and_older_version_are_accepted() -> None:
    document = http_route_raw()
    document["status"] = {"parents": []}
    document["apiVersion"] = "gateway.networking.k8s.io/v1beta1"
    assert examine(HTTPRoute, document).problems == ()
