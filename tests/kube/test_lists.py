"""Lists of a real API server are read object by object, of whatever kind."""

from __future__ import annotations

import http.client
from contextlib import closing

import msgspec
import pytest

from penstock.core.kinds import ConfigMap, Namespace
from penstock.core.objects import Object
from penstock.gatewayapi.resources import HTTPRoute
from penstock.sources.kubernetes.connection import METADATA_LIST
from penstock.sources.kubernetes.listing import Listing
from penstock.sources.kubernetes.messages import read_metadata
from penstock.sources.kubernetes.requests import ListRequest, resource_of
from support.kube import KubeApi
from support.source_suite import config_map

NAMES = [f"l{number}" for number in range(4)]


def listed(api: KubeApi, kind: type[Object], accept: str) -> bytes:
    target = ListRequest(kind.api_versions[0], resource_of(kind.kind), 0).target
    with closing(
        http.client.HTTPSConnection("127.0.0.1", api.port, context=api.client_context())
    ) as connection:
        connection.request("GET", target, headers={"Accept": accept})
        return connection.getresponse().read()


def route(name: str) -> dict[str, object]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "lists"},
        "spec": {"rules": [{"backendRefs": [{"name": "b", "port": 80}]}]},
    }


@pytest.mark.parametrize("accept", ["application/json", METADATA_LIST], ids=["whole", "metadata"])
@pytest.mark.parametrize("kind", [Namespace, ConfigMap, HTTPRoute])
def test_all_objects_but_the_last_are_read_before_the_list_ends(
    api: KubeApi, kind: type[Object], accept: str
) -> None:
    api.namespace("lists")
    for name in NAMES:
        made = config_map(name, x="1")
        made["metadata"]["namespace"] = "lists"
        api.apply(made)
        api.apply(route(name))
    found: list[str] = []

    def take(raw: msgspec.Raw) -> None:
        found.append(read_metadata(raw).uid)

    listing = Listing(take)
    listing.chunk(listed(api, kind, accept))
    before = len(found)
    assert listing.end().metadata.resource_version
    assert len(set(found)) == len(found) >= len(NAMES)
    assert before == len(found) - 1
