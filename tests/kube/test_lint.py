"""`penstock lint --crds` says what a real API server with these CRDs says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.crds.folder import Definition, Kind, definitions_in, judged
from penstock.cli.crds.rules import rule_problems
from penstock.meta.problems import Severity
from penstock.sources.kubernetes.requests import resource_of
from support.kube import KubeApi, gateway_api_crds

Json = dict[str, Any]
GATEWAY_API = "gateway.networking.k8s.io/v1"


def route(**rule: Any) -> Json:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [rule]},
    }


def gateway(*listeners: Json, **spec: Any) -> Json:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"gatewayClassName": "c", "listeners": list(listeners), **spec},
    }


HTTP: Json = {"name": "http", "protocol": "HTTP", "port": 80}
REDIRECT: Json = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}
REWRITE: Json = {"type": "URLRewrite", "urlRewrite": {"hostname": "a.test"}}
PREFIX: Json = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}
BACKEND: Json = {"name": "b", "port": 80}
OBJECTS: dict[str, Json] = {
    "a whole rule": route(matches=[{"path": {"value": "/a"}}], backendRefs=[BACKEND]),
    "a path without a slash": route(matches=[{"path": {"value": "a"}}]),
    "a path with two slashes": route(matches=[{"path": {"value": "/a//b"}}]),
    "an expression may be anything": route(
        matches=[{"path": {"type": "RegularExpression", "value": "a//b"}}]
    ),
    "a number that is a string": route(backendRefs=[{"name": "b", "port": "80"}]),
    "a port too large": route(backendRefs=[{"name": "b", "port": 70000}]),
    "a Service without port": route(backendRefs=[{"name": "b"}]),
    "a weight below zero": route(backendRefs=[{**BACKEND, "weight": -1}]),
    "redirect beside backends": route(filters=[REDIRECT], backendRefs=[BACKEND]),
    "redirect and rewrite": route(filters=[REDIRECT, REWRITE]),
    "redirect twice": route(filters=[REDIRECT, REDIRECT]),
    "a filter without its member": route(filters=[{"type": "URLRewrite"}]),
    "a prefix replaced where none is matched": route(
        matches=[{"path": {"type": "Exact", "value": "/a"}}],
        filters=[{"type": "URLRewrite", "urlRewrite": {"path": PREFIX}}],
    ),
    "a header matched twice": route(
        matches=[{"headers": [{"name": "x", "value": "1"}, {"name": "x", "value": "2"}]}]
    ),
    "an unknown field": route(backendRefs=[BACKEND], timeout="1s"),
    "a time-out": route(backendRefs=[BACKEND], timeouts={"request": "1s", "backendRequest": "1s"}),
    "a part that is longer than the whole": route(
        backendRefs=[BACKEND], timeouts={"request": "1s", "backendRequest": "2s"}
    ),
    "a time-out that is no duration": route(timeouts={"request": "1 s"}),
    "a null for a default": route(matches=None, backendRefs=[BACKEND]),
    "a Gateway": gateway(HTTP),
    "a Gateway without listeners": gateway(),
    "HTTPS without tls": gateway({"name": "s", "protocol": "HTTPS", "port": 443}),
    "HTTP with tls": gateway({**HTTP, "tls": {"mode": "Terminate"}}),
    "one listener twice": gateway(HTTP, HTTP),
    "two listeners for one port": gateway(HTTP, {**HTTP, "name": "b"}),
    "a protocol of its own": gateway({"name": "x", "protocol": "x.test/y", "port": 1}),
    "an address of a wrong form": gateway(HTTP, addresses=[{"value": "nothing at all!"}]),
}


X = "gateway.networking.x-k8s.io/v1alpha1"


def other(kind: str, version: str = GATEWAY_API, **spec: Any) -> Json:
    metadata = {"name": "o", "namespace": "default"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


SERVICE: Json = {"group": "", "kind": "Service", "name": "b"}
AUTHORITY: Json = {"group": "", "kind": "ConfigMap", "name": "ca"}
_OTHERS: dict[str, Json] = {
    "authorities of one's own": other(
        "BackendTLSPolicy", targetRefs=[SERVICE],
        validation={"hostname": "b.test", "caCertificateRefs": [AUTHORITY]},
    ),
    "authorities of one's own and the system's": other(
        "BackendTLSPolicy", targetRefs=[SERVICE],
        validation={
            "hostname": "b.test", "caCertificateRefs": [AUTHORITY],
            "wellKnownCACertificates": "System",
        },
    ),
    "one target twice": other(
        "BackendTLSPolicy", targetRefs=[SERVICE, SERVICE],
        validation={"hostname": "b.test", "caCertificateRefs": [AUTHORITY]},
    ),
    "a ListenerSet with one name twice": other(
        "ListenerSet", parentRef={"name": "g"}, listeners=[HTTP, {**HTTP, "port": 81}]
    ),
    "a call without service and method": other(
        "GRPCRoute", rules=[{"matches": [{"method": {}}], "backendRefs": [BACKEND]}]
    ),
    "a TLSRoute for an address": other(
        "TLSRoute", hostnames=["10.0.0.1"], rules=[{"backendRefs": [BACKEND]}]
    ),
    "a place outside": other(
        "XBackend", X, type="ExternalHostname", externalHostname={"hostname": "a.test"},
        port={"number": 80},
    ),
    "a place outside without its name": other(
        "XBackend", X, type="ExternalHostname", port={"number": 80}
    ),
}  # fmt: skip
OBJECTS.update(_OTHERS)


@pytest.fixture(scope="module")
def definitions() -> dict[Kind, Definition]:
    return dict(definitions_in(gateway_api_crds()[0].parent))


def verdict(folder: Path, one: Json, definitions: dict[Kind, Definition]) -> list[str]:
    file = folder / "one.yaml"
    file.write_text(yaml.safe_dump(one))
    found = list(judged([file], definitions))
    assert all(each.problem.severity is Severity.ERROR for each in found)
    return [str(each) for each in found]


def with_rules(schema: Any) -> Iterator[Json]:
    """Yield the parts of a schema that have rules, each with its rules alone."""
    if isinstance(schema, dict):
        if isinstance(rules := schema.get("x-kubernetes-validations"), list):
            yield {"x-kubernetes-validations": rules}
        schema = [*schema.values()]
    for one in schema if isinstance(schema, list) else ():
        yield from with_rules(one)


def test_every_rule_of_gateway_api_is_understood(definitions: dict[Kind, Definition]) -> None:
    every = [one for each in definitions.values() for one in with_rules(each.schema)]
    assert len(every) > 100
    said = [each.message for one in every for each in rule_problems({}, one, "spec")]
    assert [one for one in said if one.startswith("not checked")] == []


@pytest.mark.parametrize("name", OBJECTS)
def test_verdicts_are_the_servers(
    api: KubeApi, tmp_path: Path, definitions: dict[Kind, Definition], name: str
) -> None:
    one = copy.deepcopy(OBJECTS[name])
    path = f"/apis/{one['apiVersion']}/namespaces/default/{resource_of(one['kind'])}"
    status, said = api.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", one)
    assert status in (201, 400, 422), said
    ours = verdict(tmp_path, one, definitions)
    assert bool(ours) is (status != 201), (said.get("message"), ours)
