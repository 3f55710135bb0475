"""UDPRoutes: where they attach, what their statuses say, and what nodes get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.xds import types
from support import objects

NODE = "n1"
LISTENERS: list[dict[str, Any]] = [
    {"name": "dns", "protocol": "UDP", "port": 53},
    {"name": "dns-tcp", "protocol": "TCP", "port": 53},
    {"name": "quic", "protocol": "UDP", "port": 443},
    {"name": "web", "protocol": "HTTP", "port": 80},
    {
        "name": "choosy",
        "protocol": "UDP",
        "port": 54,
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    },
]


def route(
    name: str,
    parent: dict[str, Any],
    backends: Sequence[dict[str, Any]] = ({"name": "dns", "port": 80},),
    *,
    namespace: str = "shop",
    since: str = "2026-01-01T00:00:00Z",
) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "UDPRoute",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": since},
            "spec": {
                "parentRefs": [{"name": "front", "namespace": "shop"} | parent],
                "rules": [{"backendRefs": list(backends)}],
            },
        }
    )


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    known = [
        objects.gateway_class(),
        objects.gateway("front", LISTENERS),
        objects.service("dns", "10.96.0.1", udp=True),
        objects.endpoint_slice("dns", ["10.244.0.1"], udp=True),
        objects.service("other", "10.96.0.2", udp=True),
        objects.endpoint_slice("other", ["10.244.0.2"], udp=True),
        objects.service("web", "10.96.0.3"),
        objects.service("far", "10.96.0.4", namespace="data", udp=True),
    ]
    compiler.apply(objects.added([*known, *things]))
    assert compiler.failures == {}
    return compiler


def parent_conditions(compiler: Compiler, name: str, namespace: str = "shop") -> dict[str, str]:
    thing = compiler.db.routes.get(ObjectRef("UDPRoute", namespace, name))
    status = status_of(compiler.db, thing, lambda _: None) if thing is not None else None
    assert status is not None
    (parent,) = status["parents"]
    return {one["type"]: one["reason"] for one in parent["conditions"]}


def attached(compiler: Compiler) -> dict[str, int]:
    thing = compiler.db.gateways.get(NamespacedName("shop", "front"))
    status = status_of(compiler.db, thing, lambda _: None) if thing is not None else None
    assert status is not None
    return {one["name"]: one["attachedRoutes"] for one in status["listeners"]}


def places(compiler: Compiler, port: int) -> list[tuple[str, int]]:
    """Return (address, weight) of the endpoints of a port of UDP."""
    name = f"stream|shop/front/{port}/udp|*"
    (body,) = (
        one.body
        for one in compiler.resources(NODE)
        if (one.type_url, one.name) == (types.ENDPOINTS, name)
    )
    made = endpoint_pb2.ClusterLoadAssignment.FromString(body)
    return [
        (one.endpoint.address.socket_address.address, one.load_balancing_weight.value)
        for locality in made.endpoints
        for one in locality.lb_endpoints
    ]


@pytest.mark.parametrize(
    ("parent", "where"),
    [
        ({}, {"dns", "quic", "choosy"}),
        ({"port": 53}, {"dns"}),
        ({"sectionName": "quic"}, {"quic"}),
        ({"sectionName": "quic", "port": 443}, {"quic"}),
    ],
)
def test_a_route_attaches_to_the_listeners_of_udp_that_it_names(
    parent: dict[str, Any], where: set[str]
) -> None:
    compiler = compiled(route("r", parent))
    assert parent_conditions(compiler, "r")["Accepted"] == "Accepted"
    assert {name for name, count in attached(compiler).items() if count} == where


@pytest.mark.parametrize(
    ("parent", "namespace", "reason"),
    [
        ({"sectionName": "none"}, "shop", "NoMatchingParent"),
        ({"port": 9}, "shop", "NoMatchingParent"),
        ({"sectionName": "web"}, "shop", "NotAllowedByListeners"),
        ({"sectionName": "dns-tcp"}, "shop", "NotAllowedByListeners"),
        ({"sectionName": "choosy"}, "data", "NotAllowedByListeners"),
    ],
)
def test_a_route_that_no_listener_takes_says_why(
    parent: dict[str, Any], namespace: str, reason: str
) -> None:
    compiler = compiled(route("r", parent, namespace=namespace))
    assert parent_conditions(compiler, "r", namespace)["Accepted"] == reason
    assert set(attached(compiler).values()) == {0}


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ({"name": "missing", "port": 80}, "BackendNotFound"),
        ({"name": "far", "namespace": "data", "port": 80}, "RefNotPermitted"),
        ({"name": "dns", "port": 80, "group": "x.test", "kind": "Thing"}, "InvalidKind"),
    ],
)
def test_the_share_of_a_backend_that_is_not_there_is_refused(
    backend: dict[str, Any], reason: str
) -> None:
    compiler = compiled(route("r", {"port": 53}, [{"name": "dns", "port": 80}, backend]))
    found = parent_conditions(compiler, "r")
    assert (found["Accepted"], found["ResolvedRefs"]) == ("Accepted", reason)
    assert len({weight for _, weight in places(compiler, 53)}) == 1
    assert [address for address, _ in places(compiler, 53)] == ["10.244.0.1", "127.0.0.1"]


def test_a_service_without_that_port_of_udp_is_refused_and_said_to_be() -> None:
    compiler = compiled(route("r", {"port": 53}, [{"name": "web", "port": 80}]))
    assert [address for address, _ in places(compiler, 53)] == ["127.0.0.1"]
    assert parent_conditions(compiler, "r")["ResolvedRefs"] == "UnsupportedProtocol"


def test_of_several_routes_all_are_counted_and_the_oldest_is_served() -> None:
    younger = route("a", {"port": 53}, since="2026-01-02T00:00:00Z")
    older = route("b", {"port": 53}, [{"name": "other", "port": 80}])
    compiler = compiled(younger, older)
    assert {parent_conditions(compiler, one)["Accepted"] for one in "ab"} == {"Accepted"}
    assert attached(compiler)["dns"] == 2
    assert [address for address, _ in places(compiler, 53)] == ["10.244.0.2"]
    compiler.apply([Event(EventType.DELETED, older)])
    assert attached(compiler)["dns"] == 1
    assert [address for address, _ in places(compiler, 53)] == ["10.244.0.1"]


def test_a_listener_of_udp_that_ends_leaves_nothing() -> None:
    compiler = compiled(route("r", {}))
    kept = [one for one in LISTENERS if one["protocol"] != "UDP"]
    compiler.apply([Event(EventType.MODIFIED, objects.gateway("front", kept))])
    assert compiler.failures == {}
    held = [one.name for one in compiler.resources(NODE)]
    assert not [name for name in held if "shop/front/" in name and "/udp" in name]
    assert parent_conditions(compiler, "r")["Accepted"] != "Accepted"
