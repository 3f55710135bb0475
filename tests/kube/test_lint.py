"""`penstock lint --crds` says what a real API server with these CRDs says."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.crds.folder import Definition, Kind, definitions_in, judged
from penstock.meta.problems import Severity
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


@pytest.fixture(scope="module")
def definitions() -> dict[Kind, Definition]:
    return dict(definitions_in(gateway_api_crds()[0].parent))


def verdict(folder: Path, one: Json, definitions: dict[Kind, Definition]) -> list[str]:
    file = folder / "one.yaml"
    file.write_text(yaml.safe_dump(one))
    found = list(judged([file], definitions))
    assert all(each.problem.severity is Severity.ERROR for each in found)
    return [str(each) for each in found]


@pytest.mark.parametrize("name", OBJECTS)
def test_verdicts_are_the_servers(
    api: KubeApi, tmp_path: Path, definitions: dict[Kind, Definition], name: str
) -> None:
    one = copy.deepcopy(OBJECTS[name])
    plural = f"{one['kind'].lower()}s"
    path = f"/apis/{GATEWAY_API}/namespaces/default/{plural}"
    status, said = api.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", one)
    assert status in (201, 400, 422), said
    ours = verdict(tmp_path, one, definitions)
    assert bool(ours) is (status != 201), (said.get("message"), ours)
