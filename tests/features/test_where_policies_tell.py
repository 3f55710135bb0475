"""Where a BackendTLSPolicy has a status: at Gateways that need its Service, be it there or not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from support import objects, streams
from support.pki import issue

Thing = Object | Broken
Json = dict[str, Any]
AUTHORITY, POLICY = streams.tls("one", issue("authority"))
LISTENERS: list[Json] = [
    {"name": "http", "protocol": "HTTP", "port": 80},
    {"name": "tcp", "protocol": "TCP", "port": 5000},
    {"name": "udp", "protocol": "UDP", "port": 5000},
]
PASSED = {"name": "tls", "protocol": "TLS", "port": 443, "tls": {"mode": "Passthrough"}}
ENDED = PASSED | {"tls": {"certificateRefs": [{"name": "none"}]}}
ASKED: Json = {
    "type": "ExternalAuth",
    "externalAuth": {"protocol": "HTTP", "backendRef": {"name": "one", "port": 80}, "http": {}},
}
FRONT = {"name": "front"}


def http(name: str = "r", *, parent: Json | None = None, **more: Any) -> Thing:
    return objects.http_route(name, parent=parent or FRONT, **more)


def asking_route() -> Thing:
    rule = {"filters": [ASKED], "backendRefs": [{"name": "two", "port": 80}]}
    return objects.gateway_api("HTTPRoute", "r", {"parentRefs": [FRONT], "rules": [rule]})


def grpc() -> Thing:
    rule = {"backendRefs": [{"name": "one", "port": 80}]}
    return objects.gateway_api("GRPCRoute", "r", {"parentRefs": [FRONT], "rules": [rule]})


def traced() -> Thing:
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}
    tracing = {"mode": "Enabled", "provider": {"backendRef": {"name": "one", "port": 80}}}
    spec = {"targetRefs": [target], "tracing": tracing}
    return objects.made({
        "apiVersion": f"{objects.X_GROUP}/v1alpha1", "kind": "XTelemetryPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec,
    })  # fmt: skip


def added_set() -> Thing:
    """Return a ListenerSet whose listener asks."""
    listener = {"name": "a", "protocol": "HTTP", "port": 81, "filters": {"requests": [ASKED]}}
    return objects.gateway_api("ListenerSet", "r", {"parentRef": FRONT, "listeners": [listener]})


def gateway(
    *more: Json, name: str = "front", of_class: str = "penstock", lets_in: str = "Same"
) -> Thing:
    spec = {
        "gatewayClassName": of_class,
        "listeners": [*LISTENERS, *more],
        "allowedListeners": {"namespaces": {"from": lets_in}},
    }
    return objects.gateway_api("Gateway", name, spec)


TO_ONE = [("one", 1)]
NEEDED = {
    "requests": [http(backends=TO_ONE)],
    "requests by gRPC": [grpc()],
    "requests to a port that it has not": [
        objects.gateway_api(
            "HTTPRoute",
            "r",
            {"parentRefs": [FRONT], "rules": [{"backendRefs": [{"name": "one", "port": 9}]}]},
        )
    ],
    "copies of requests": [http(backends=[("two", 1)], copies=["one"])],
    "connections": [streams.route("TCPRoute", "r", TO_ONE)],
    "TLS that is ended": [
        gateway(ENDED),
        streams.route("TLSRoute", "r", TO_ONE, hostnames=["a.test"]),
    ],
    "a route that asks": [asking_route()],
    "a listener that asks": [gateway({"name": "a", "protocol": "HTTP", "port": 81,
                                      "filters": {"requests": [ASKED]}})],
    "a listener of a ListenerSet that asks": [added_set()],
    "traces": [traced()],
}  # fmt: skip
NOT_NEEDED = {
    "nothing": [],
    "datagrams": [streams.route("UDPRoute", "r", TO_ONE)],
    "TLS that is handed on": [
        gateway(PASSED),
        streams.route("TLSRoute", "r", TO_ONE, hostnames=["a.test"]),
    ],
    "pods": [http(parent=objects.on_service("two"), backends=TO_ONE)],
    "a Gateway of others": [http(parent={"name": "foreign"}, backends=TO_ONE)],
    "a ListenerSet that is not let in": [gateway(lets_in="None"), added_set()],
}
SERVICE = objects.service("one", "10.96.0.1")


def compiled(*things: Thing) -> Compiler:
    """Return a world in which the Service is not there."""
    rest = (objects.gateway_class(), objects.service("two", "10.96.0.2"), AUTHORITY, POLICY)
    gateways = (gateway(), gateway(name="foreign", of_class="other"))
    world = {one.ref: one for one in (*rest, *gateways, *things)}
    assert not any(isinstance(one, Broken) for one in world.values())
    compiler = Compiler()
    compiler.apply(objects.added(world.values()))
    assert compiler.failures == {}
    compiler.statuses.follow(POLICY.ref)
    return compiler


def told(compiler: Compiler) -> list[tuple[str, str]]:
    """Return at which Gateways the policy is accepted or why not."""
    status = status_of(compiler.db, POLICY, lambda _: None) or {"ancestors": []}
    return [
        (one["ancestorRef"]["name"], condition["reason"])
        for one in status["ancestors"]
        for condition in one["conditions"]
        if condition["type"] == "Accepted"
    ]


@pytest.mark.parametrize("what", NEEDED)
def test_a_service_that_is_not_there_is_told_where_it_is_needed(what: str) -> None:
    compiler = compiled(*NEEDED[what])
    assert told(compiler) == [("front", "TargetNotFound")]
    compiler.apply([Event(EventType.ADDED, SERVICE)])
    assert POLICY.ref in compiler.statuses.take()
    assert told(compiler) == [("front", "Accepted")]
    compiler.apply([Event(EventType.DELETED, SERVICE)])
    assert told(compiler) == [("front", "TargetNotFound")]


@pytest.mark.parametrize("what", NOT_NEEDED)
def test_where_nobody_needs_it_there_is_no_status_and_lint_tells(what: str) -> None:
    compiler = compiled(*NOT_NEEDED[what])
    assert told(compiler) == []
    assert isinstance(POLICY, Object)
    (problem,) = problems_of(compiler.db, POLICY)
    assert "there is no Service shop/one" in str(problem)


def test_the_status_comes_and_goes_with_who_needs_it() -> None:
    compiler = compiled()
    route = http(backends=TO_ONE)
    for kind, wanted in ((EventType.ADDED, [("front", "TargetNotFound")]), (EventType.DELETED, [])):
        compiler.apply([Event(kind, route)])
        assert POLICY.ref in compiler.statuses.take()
        assert told(compiler) == wanted
