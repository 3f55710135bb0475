"""Decoding straight from text: the same objects, and None where there is something to say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.core.decode import decode
from penstock.core.direct import DirectDecoder
from penstock.core.kinds import EndpointSlice, Service
from penstock.core.objects import Object
from penstock.core.pods import Pod
from penstock.gatewayapi.resources import HTTPRoute
from penstock.policy.resources import CiliumNetworkPolicy

METADATA = {"name": "a", "namespace": "shop", "uid": "u", "managedFields": [{"manager": "x"}]}
SPECS: dict[type[Object], dict[str, Any]] = {
    Service: {"ports": [{"port": 80, "name": "http"}], "clusterIP": "10.96.0.1"},
    Pod: {"containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 80}]}]},
    HTTPRoute: {
        "parentRefs": [{"name": "gw"}],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/a"}}],
                "filters": [
                    {
                        "type": "RequestHeaderModifier",
                        "requestHeaderModifier": {"set": [{"name": "x", "value": "y"}]},
                    }
                ],
                "backendRefs": [{"name": "b", "port": 80}],
            }
        ],
    },
    CiliumNetworkPolicy: {
        "endpointSelector": {"matchLabels": {"app": "a"}},
        "ingress": [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "80"}]}]}],
    },
}


def document(kind: type[Object]) -> dict[str, Any]:
    header = {"apiVersion": kind.api_versions[0], "kind": kind.kind}
    return {**header, "metadata": METADATA, "spec": SPECS[kind]}


def read(kind: type[Object], raw: dict[str, Any], *, ignores_unknown: bool = False) -> Any:
    decoder = DirectDecoder(kind, ignores_unknown=ignores_unknown)
    return decoder.decode(json.dumps(raw).encode())


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.kind)
def test_a_good_object_is_the_one_that_decoding_by_way_of_dicts_gives(kind: type[Object]) -> None:
    raw = document(kind)
    found = read(kind, raw)
    assert found is not None
    assert found == decode(kind, raw)


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.kind)
def test_an_unknown_field_is_left_to_others(kind: type[Object]) -> None:
    raw = document(kind)
    assert read(kind, {**raw, "extra": 1}) is None
    assert read(kind, {**raw, "spec": {**raw["spec"], "extra": None}}) is None


def test_unknown_fields_of_kubernetes_itself_do_no_harm() -> None:
    raw = document(Service)
    newer = {**raw, "spec": {**raw["spec"], "extra": {"deep": []}}}
    assert read(Service, newer, ignores_unknown=True) == decode(Service, raw)


def test_an_unknown_field_far_below_is_left_to_others() -> None:
    raw = json.loads(json.dumps(document(HTTPRoute)))
    raw["spec"]["rules"][0]["filters"][0]["requestHeaderModifier"]["set"][0]["extra"] = "x"
    assert read(HTTPRoute, raw) is None


def test_a_null_is_left_to_others_where_it_is_an_error() -> None:
    raw = json.loads(json.dumps(document(CiliumNetworkPolicy)))
    raw["spec"]["ingress"][0]["toPorts"] = None
    assert read(CiliumNetworkPolicy, raw) is None
    assert read(CiliumNetworkPolicy, raw, ignores_unknown=True) is None


def test_what_only_a_check_finds_is_left_to_others() -> None:
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": METADATA,
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    }
    assert read(EndpointSlice, slice_) == decode(EndpointSlice, slice_)
    assert read(EndpointSlice, {**slice_, "endpoints": [{"addresses": ["x"]}]}) is None
