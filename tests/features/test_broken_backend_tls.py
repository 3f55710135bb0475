"""A BackendTLSPolicy that is not understood: never plain text to what it names."""

from __future__ import annotations

from typing import Any

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.xds import types
from support import objects

WORLD = [
    objects.gateway_class(),
    objects.gateway("front"),
    objects.service("web", "10.96.0.1"),
    objects.endpoint_slice("web", ["10.244.0.1"]),
    objects.service("other", "10.96.0.2"),
    objects.endpoint_slice("other", ["10.244.0.2"]),
    objects.http_route("web", parent={"name": "front"}, backends=[("web", 1), ("other", 1)]),
]


def _policy(validation: Any) -> Broken:
    raw = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "BackendTLSPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "validation": validation,
        },
    }
    made = objects.made(raw)
    assert isinstance(made, Broken)
    return made


def _endpoints(compiler: Compiler, service: str) -> int:
    (found,) = [
        endpoint_pb2.ClusterLoadAssignment.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.ENDPOINTS and one.name == f"gw|shop/{service}/80"
    ]
    return sum(len(locality.lb_endpoints) for locality in found.endpoints)


def test_its_services_have_no_endpoints_until_it_is_mended_or_gone() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(WORLD))
    assert (_endpoints(compiler, "web"), _endpoints(compiler, "other")) == (1, 1)
    broken = _policy({"noSuchField": True})
    compiler.apply([Event(EventType.ADDED, broken)])
    assert compiler.failures == {}
    assert (_endpoints(compiler, "web"), _endpoints(compiler, "other")) == (0, 1)
    compiler.apply([Event(EventType.DELETED, broken)])
    assert (_endpoints(compiler, "web"), _endpoints(compiler, "other")) == (1, 1)
