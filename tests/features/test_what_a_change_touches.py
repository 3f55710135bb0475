"""Which resources a change touches, and which it must leave alone."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.nodes import EVERY_NODE
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects

Change = tuple[set[str], set[str]]
"""Types of what came or changed, types of what went."""

CONSUMERS = ("team-a", "team-b")


def _base() -> list[Object | Broken]:
    return [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.service("orders", "10.96.0.1"),
        objects.endpoint_slice("orders", ["10.244.0.1"]),
        objects.pod("orders-0", "10.244.0.1", {"app": "orders"}),
        objects.pod("orders-1", "10.244.0.2", {"app": "orders"}),
        objects.pod("front-0", "10.244.0.3", {"app": "front"}),
        objects.http_route("gateway", parent={"name": "front"}, backends=[("orders", 1)]),
        objects.http_route("mesh", parent=objects.on_service("orders"), backends=[("orders", 1)]),
    ]


@pytest.fixture
def compiler() -> Compiler:
    made = Compiler()
    made.apply(objects.added(_base()))
    return made


def _apply(compiler: Compiler, thing: Object | Broken, kind: EventType) -> Change:
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    came = {types.short(one.type_url) for change in changes for one in change.delta.upserts}
    gone = {types.short(one.type_url) for change in changes for one in change.delta.removals}
    return came, gone


def _policy(direction: str, peer: str) -> Object | Broken:
    side = "fromEndpoints" if direction == "ingress" else "toEndpoints"
    item = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"path": "/a"}]}}
    rule = {side: [{"matchLabels": {"app": peer}}], "toPorts": [item]}
    who = {"ingress": "orders", "egress": "front"}[direction]
    spec = {"endpointSelector": {"matchLabels": {"app": who}}, direction: [rule]}
    return objects.policy("p", spec)


def test_an_ingress_policy_on_running_pods_touches_neither_clusters_nor_listeners(
    compiler: Compiler,
) -> None:
    came, gone = _apply(compiler, _policy("ingress", "front"), EventType.ADDED)
    assert came == {"TypedExtensionConfig", "ScopedRouteConfiguration", "Policy"}
    assert gone == set()
    came, gone = _apply(compiler, _policy("ingress", "front"), EventType.DELETED)
    assert came == {"TypedExtensionConfig", "Policy"}
    assert gone == {"ScopedRouteConfiguration"}


def test_an_egress_policy_on_running_pods_touches_neither_clusters_nor_listeners(
    compiler: Compiler,
) -> None:
    came, gone = _apply(compiler, _policy("egress", "orders"), EventType.ADDED)
    assert came == {"TypedExtensionConfig", "ScopedRouteConfiguration", "Policy"}
    assert gone == set()


def test_an_egress_policy_on_http_leads_clients_to_envoy_where_no_route_did() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(one for one in _base() if one.ref.kind != "HTTPRoute"))
    came, _ = _apply(compiler, _policy("egress", "orders"), EventType.ADDED)
    assert came == {
        "Cluster", "ClusterLoadAssignment", "TypedExtensionConfig", "ScopedRouteConfiguration",
        "Policy", "Service",
    }  # fmt: skip


@pytest.mark.parametrize("ips", [[], ["10.244.0.2"], ["10.244.0.1", "10.244.0.2", "192.0.2.1"]])
def test_a_change_of_endpoints_never_touches_clusters_routes_or_listeners(
    compiler: Compiler, ips: list[str]
) -> None:
    came, gone = _apply(compiler, objects.endpoint_slice("orders", ips), EventType.MODIFIED)
    assert came <= {"ClusterLoadAssignment", "Service", "TypedExtensionConfig"}
    assert "ClusterLoadAssignment" in came
    assert gone == set()


def test_one_more_pod_of_a_kind_touches_nothing_of_the_others(compiler: Compiler) -> None:
    more = objects.pod("orders-2", "10.244.0.4", {"app": "orders"})
    assert _apply(compiler, more, EventType.ADDED) == ({"Workload", "Listener"}, set())


def test_a_policy_that_selects_nobody_touches_nothing(compiler: Compiler) -> None:
    spec = {"endpointSelector": {"matchLabels": {"app": "nobody"}}, "ingress": [{}]}
    assert _apply(compiler, objects.policy("p", spec), EventType.ADDED) == (set(), set())


def _grant() -> Object | Broken:
    route = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}
    return objects.gateway_api(
        "ReferenceGrant",
        "g",
        {"from": [route], "to": [{"group": "", "kind": "Service", "name": "ledger"}]},
        "bank",
    )


def _across() -> Object | Broken:
    backend = {"name": "ledger", "namespace": "bank", "port": 80}
    return objects.gateway_api(
        "HTTPRoute",
        "across",
        {
            "parentRefs": [{"name": "front"}],
            "hostnames": ["a.test"],
            "rules": [{"backendRefs": [backend]}],
        },
    )


def _resolved(compiler: Compiler) -> tuple[str, str]:
    """Return where the route leads and what its status says of its references."""
    (scope,) = [one for one in compiler.resources("") if one.name.endswith("|a.test")]
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(scope.body)
    status = status_of(compiler.db, _across(), lambda _: None)
    assert status is not None
    (said,) = [
        one["reason"] for one in status["parents"][0]["conditions"] if one["type"] == "ResolvedRefs"
    ]
    return made.route_configuration.virtual_hosts[0].routes[0].route.cluster, said


def test_a_revoked_grant_takes_the_backend_away(compiler: Compiler) -> None:
    ledger = objects.service("ledger", "10.96.0.9", namespace="bank")
    compiler.apply(objects.added([ledger, _across(), _grant()]))
    assert _resolved(compiler) == ("gw|bank/ledger/80", "ResolvedRefs")
    came, gone = _apply(compiler, _grant(), EventType.DELETED)
    assert (came, gone) == ({"ScopedRouteConfiguration"}, set())
    assert _resolved(compiler) == ("penstock.invalid", "RefNotPermitted")
    _apply(compiler, _grant(), EventType.ADDED)
    assert _resolved(compiler) == ("gw|bank/ledger/80", "ResolvedRefs")


def _egress_scopes(compiler: Compiler) -> list[str]:
    return [
        one.name
        for one in compiler.resources(EVERY_NODE)
        if one.type_url == types.SCOPE and one.name.startswith("eg|")
    ]


def test_a_service_has_one_scope_for_each_address_whoever_has_routes_for_it(
    compiler: Compiler,
) -> None:
    assert _egress_scopes(compiler) == ["eg|10.96.0.1:80"]
    for namespace in CONSUMERS:
        for name in ("one", "two"):
            route = objects.http_route(
                name, parent=objects.on_service("orders", "shop"), namespace=namespace
            )
            compiler.apply(objects.added([route]))
    assert _egress_scopes(compiler) == ["eg|10.96.0.1:80"]


def _listener(compiler: Compiler, uid: str) -> Resource:
    return next(one for one in compiler.resources("n1") if one.name == f"{uid}/egress")


def test_a_consumer_route_touches_no_listener_and_no_other_service(compiler: Compiler) -> None:
    inside = objects.pod("c", "10.244.1.1", {"app": "c"}, namespace="team-a")
    compiler.apply(objects.added([inside]))
    before = _listener(compiler, "uid-Pod/team-a/c")
    route = objects.http_route("r", parent=objects.on_service("orders", "shop"), namespace="team-a")
    (change,) = compiler.apply(objects.added([route]))
    touched = {one.name for one in change.delta.upserts}
    assert "eg|10.96.0.1:80" in touched
    assert {name for name in touched if name.startswith("eg|10.")} == {"eg|10.96.0.1:80"}
    assert _listener(compiler, "uid-Pod/team-a/c") == before


def _traffic(**spec: object) -> Object | Broken:
    target = {"group": "", "kind": "Service", "name": "orders"}
    return objects.made(
        {
            "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
            "kind": "XBackendTrafficPolicy",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"targetRefs": [target], **spec},
        }
    )


def test_a_retry_budget_touches_the_clusters_of_its_service_only(compiler: Compiler) -> None:
    policy = _traffic(retryConstraint={})
    assert _apply(compiler, policy, EventType.ADDED) == ({"Cluster"}, set())
    assert _apply(compiler, policy, EventType.DELETED) == ({"Cluster"}, set())


def test_a_session_touches_the_routes_to_its_service_only(compiler: Compiler) -> None:
    policy = _traffic(sessionPersistence={"cookie": {"name": "a"}})
    assert _apply(compiler, policy, EventType.ADDED) == ({"ScopedRouteConfiguration"}, set())
    kept = {"sessionPersistence": {"cookie": {"name": "b"}}}
    assert _apply(compiler, _traffic(**kept), EventType.MODIFIED) == (
        {"ScopedRouteConfiguration"},
        set(),
    )


def _outside(hostname: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
            "kind": "XBackend",
            "metadata": {"name": "outside", "namespace": "shop"},
            "spec": {
                "type": "ExternalHostname",
                "externalHostname": {"hostname": hostname},
                "port": {"number": 80},
            },
        }
    )


def test_a_place_outside_has_a_cluster_of_its_own(compiler: Compiler) -> None:
    assert _apply(compiler, _outside("a.test"), EventType.ADDED) == (set(), set())
    route = objects.http_route(
        "out", parent={"name": "front"}, backends=[("outside", 1)], path="/o"
    )
    came, gone = _apply(compiler, route, EventType.ADDED)
    assert (came, gone) == ({"Cluster", "ScopedRouteConfiguration"}, set())
    assert _apply(compiler, _outside("b.test"), EventType.MODIFIED) == ({"Cluster"}, set())
    came, gone = _apply(compiler, _outside("b.test"), EventType.DELETED)
    assert (came, gone) == ({"ScopedRouteConfiguration"}, {"Cluster"})
