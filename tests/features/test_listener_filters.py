"""Filters of listeners from objects to nodes: what a change touches, what a missing grant costs."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from support import objects

Thing = Object | Broken
MODIFIED, DELETED = EventType.MODIFIED, EventType.DELETED
GUARD = objects.made(
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "guard", "namespace": "auth"},
        "spec": {"clusterIP": "10.96.1.1", "ports": [{"name": "http", "port": 80}]},
    }
)
GRANT = objects.gateway_api(
    "ReferenceGrant",
    "guard",
    {
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Service"}],
    },
    "auth",
)


def asking(path: str = "/check") -> dict[str, Any]:
    auth = {
        "protocol": "HTTP",
        "backendRef": {"name": "guard", "namespace": "auth", "port": 80},
        "http": {"path": path},
    }
    return {"requests": [{"type": "ExternalAuth", "externalAuth": auth}]}


def gateway(**filters: dict[str, Any]) -> Thing:
    """Return a Gateway with a listener for each of three hosts; *filters* are those of some."""
    listeners = [
        {"name": name, "protocol": "HTTP", "port": port, "hostname": f"{name}.test"}
        | ({"filters": filters[name]} if name in filters else {})
        for name, port in (("a", 80), ("b", 80), ("c", 81))
    ]
    return objects.gateway("gw", listeners)


def compiled(*things: Thing) -> Compiler:
    route = objects.http_route("r", parent={"name": "gw"}, backends=[("web", 1)])
    web = objects.service("web", "10.96.0.1")
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), web, route, *things]))
    assert compiler.failures == {}
    return compiler


def touched(compiler: Compiler, kind: EventType, thing: Thing) -> set[str]:
    """Return "Type name" of what changes for any node, "-Type name" of what goes."""
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    found = {str(one.key) for change in changes for one in change.delta.upserts}
    return found | {f"-{key}" for change in changes for key in change.delta.removals}


def listener(compiler: Compiler, one: Thing, name: str = "a") -> dict[str, tuple[str, str, str]]:
    """Return type → status, reason and message of the conditions of a listener."""
    status = status_of(compiler.db, one, lambda _: None)
    assert status is not None
    (found,) = [each for each in status["listeners"] if each["name"] == name]
    return {
        each["type"]: (each["status"], each["reason"], each["message"])
        for each in found["conditions"]
    }


def filters_of(compiler: Compiler, host: str) -> dict[str, bytes]:
    """Return what is asked about the requests to a host, by the places."""
    (body,) = [
        one.body
        for one in compiler.resources("n1")
        if (one.type_url, one.name) == (types.SCOPE, f"gw|shop/gw/80|{host}")
    ]
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(body)
    (only,) = made.route_configuration.virtual_hosts
    return {name: one.value for name, one in only.typed_per_filter_config.items()}


def test_a_new_filter_changes_its_port_and_its_host_and_nothing_else() -> None:
    compiler = compiled(GUARD, GRANT, gateway())
    assert touched(compiler, MODIFIED, gateway(a=asking())) == {
        "Listener gateway/shop/gw/80",
        "ScopedRouteConfiguration gw|shop/gw/80|a.test",
        "Cluster auth|auth/guard/80",
        "ClusterLoadAssignment auth|auth/guard/80",
    }
    assert list(filters_of(compiler, "a.test")) == ["penstock.listener.0"]
    assert filters_of(compiler, "b.test") == {}


def test_other_settings_of_a_filter_change_no_listener() -> None:
    compiler = compiled(GUARD, GRANT, gateway(a=asking()))
    assert touched(compiler, MODIFIED, gateway(a=asking("/other"))) == {
        "ScopedRouteConfiguration gw|shop/gw/80|a.test"
    }


def test_with_the_filter_goes_what_it_needed() -> None:
    compiler = compiled(GUARD, GRANT, gateway(a=asking()))
    assert touched(compiler, MODIFIED, gateway()) == {
        "Listener gateway/shop/gw/80",
        "ScopedRouteConfiguration gw|shop/gw/80|a.test",
        "-Cluster auth|auth/guard/80",
        "-ClusterLoadAssignment auth|auth/guard/80",
    }


def test_a_revoked_grant_closes_the_listener_and_says_so_and_a_new_one_opens_it() -> None:
    one = gateway(a=asking())
    compiler = compiled(GUARD, GRANT, one)
    open_ = filters_of(compiler, "a.test")
    assert listener(compiler, one)["ResolvedRefs"] == ("True", "ResolvedRefs", "")
    scope = {"ScopedRouteConfiguration gw|shop/gw/80|a.test"}
    assert touched(compiler, DELETED, GRANT) == scope
    told = listener(compiler, one)
    assert told["Accepted"][:2] == ("True", "Accepted")
    status, reason, message = told["ResolvedRefs"]
    assert (status, reason) == ("False", "RefNotPermitted")
    assert message.startswith("filters.requests[0].externalAuth.backendRef: no ReferenceGrant in ")
    assert told["Programmed"][:2] == ("False", "Invalid")
    assert filters_of(compiler, "a.test") != open_
    assert listener(compiler, one, "b")["Programmed"][:2] == ("True", "Programmed")
    assert touched(compiler, EventType.ADDED, GRANT) == scope
    assert filters_of(compiler, "a.test") == open_


def test_endpoints_of_the_server_touch_no_scope_and_no_cluster() -> None:
    compiler = compiled(GUARD, GRANT, gateway(a=asking()))
    slice_ = objects.endpoint_slice("guard", ["10.244.9.9"], namespace="auth")
    assert touched(compiler, EventType.ADDED, slice_) == {
        "ClusterLoadAssignment auth|auth/guard/80",
        "Service auth/guard/80/tcp",
    }


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ({"name": "none", "port": 80}, "there is no Service shop/none"),
        ({"name": "web", "port": 81}, "Service shop/web has no port 81"),
        ({"name": "x", "kind": "Pod", "port": 1}, "Pod is not a kind of backend; use Service"),
    ],
)
def test_lint_says_which_filter_leads_nowhere(ref: dict[str, Any], text: str) -> None:
    auth = {"protocol": "HTTP", "backendRef": ref, "http": {}}
    given = {"requests": [*asking()["requests"], {"type": "ExternalAuth", "externalAuth": auth}]}
    one = gateway(b=given)
    compiler = compiled(GUARD, GRANT, one)
    (problem,) = problems_of(compiler.db, one)
    assert problem.path == "spec.listeners[1].filters.requests[1].externalAuth.backendRef"
    assert problem.message == f"InvalidListenerFilterRef: {text}"


def test_who_needs_tls_by_its_protocol_is_not_asked_in_plain_text() -> None:
    secure = objects.made(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "guard", "namespace": "auth"},
            "spec": {
                "clusterIP": "10.96.1.1",
                "ports": [{"port": 80, "appProtocol": "https"}],
            },
        }
    )
    one = gateway(a=asking())
    found = listener(compiled(secure, GRANT, one), one)["ResolvedRefs"]
    assert found[1] == "InvalidListenerFilterRef"
    assert found[2].endswith("has appProtocol https: needs TLS")
