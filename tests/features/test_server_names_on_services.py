"""TLSRoutes on Services: which server name leads where for whom, and what a change touches."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.marks import UNREAD
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName
from support import objects, streams

NODE = "n1"
ON_FRONT = [objects.on_service("front", "shop")]
SCOPE = ResourceName(types.SCOPE, "sni|10.96.0.1:80")
NOBODY = "404"
KNOWN = (
    objects.pod("client", "10.244.0.7", {"app": "client"}, namespace="team"),
    objects.service("front", "10.96.0.1"),
    objects.endpoint_slice("front", ["10.244.0.1"]),
    objects.service("one", "10.96.0.2"),
    objects.endpoint_slice("one", ["10.244.0.2"]),
    objects.service("two", "10.96.0.3"),
    objects.endpoint_slice("two", ["10.244.0.3"]),
)
Way = tuple[str, str | dict[str, int]]
"""Namespace of clients, and a status or clusters with weights."""


def route(
    name: str,
    hosts: list[str],
    *backends: tuple[str, int],
    since: str = streams.SINCE,
    namespace: str = "shop",
) -> Object | Broken:
    more: dict[str, Any] = {"parentRefs": ON_FRONT, "hostnames": hosts}
    return streams.route("TLSRoute", name, backends or [("one", 1)], since=since,
                         namespace=namespace, **more)  # fmt: skip


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([*KNOWN, *things]))
    assert compiler.failures == {}
    return compiler


def held(compiler: Compiler) -> dict[ResourceName, Resource]:
    return {one.key: one for one in compiler.resources(NODE)}


def ways(compiler: Compiler) -> dict[str, list[Way]]:
    """Return what the scope of Service front has for each server name."""
    body = held(compiler)[SCOPE].body
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(body)
    hosts = made.route_configuration.virtual_hosts
    assert [list(host.domains) for host in hosts] == [[host.name] for host in hosts]
    return {host.name: [_way(one) for one in host.routes] for host in hosts}


def _way(made: route_pb2.Route) -> Way:
    assert made.match.HasField("connect_matcher")
    clients = "".join(one.string_match.exact for one in made.match.headers)
    if made.HasField("direct_response"):
        return clients, str(made.direct_response.status)
    shares = made.route.weighted_clusters.clusters
    return clients, {one.name: one.weight.value for one in shares}


def to(*services: str) -> dict[str, int]:
    return {f"sni|shop/{name}/80": 1 for name in services}


def accepted(compiler: Compiler, kind: str, name: str) -> str:
    thing = compiler.db.routes.get(ObjectRef(kind, "shop", name))
    status = status_of(compiler.db, thing, lambda _: None) if thing is not None else None
    assert status is not None
    (found,) = (one for one in status["parents"][0]["conditions"] if one["type"] == "Accepted")
    return str(found["reason"])


def test_each_server_name_has_its_backends_by_weight() -> None:
    compiler = compiled(route("r", ["a.test", "*.b.test"], ("one", 3), ("two", 1)))
    shares = {"sni|shop/one/80": 3, "sni|shop/two/80": 1}
    assert ways(compiler) == {"*.b.test": [("", shares)], "a.test": [("", shares)]}


def test_of_routes_for_one_name_the_oldest_has_it_and_all_are_accepted() -> None:
    compiler = compiled(
        route("a", ["a.test"], ("two", 1), since="2026-02-01T00:00:00Z"), route("z", ["a.test"])
    )
    assert ways(compiler) == {"a.test": [("", to("one"))]}
    assert {accepted(compiler, "TLSRoute", name) for name in "az"} == {"Accepted"}


def test_shares_of_what_is_not_there_lead_nowhere_and_no_weight_is_nobody() -> None:
    compiler = compiled(
        route("r", ["a.test"], ("one", 1), ("missing", 2)), route("s", ["b.test"], ("one", 0))
    )
    assert ways(compiler) == {
        "a.test": [("", {"sni|shop/one/80": 1, "penstock.invalid": 2})],
        "b.test": [("", "503")],
    }


def test_clients_with_routes_of_their_own_have_no_others() -> None:
    compiler = compiled(
        route("p", ["a.test", "b.test"]), route("c", ["*.test"], ("two", 1), namespace="team")
    )
    assert ways(compiler) == {
        "*.test": [("team", to("two")), ("", NOBODY)],
        "a.test": [("team", to("two")), ("", to("one"))],
        "b.test": [("team", to("two")), ("", to("one"))],
    }


@pytest.mark.parametrize("kind", ["HTTPRoute", "TCPRoute"])
def test_clients_with_routes_of_another_kind_have_no_server_names(kind: str) -> None:
    own = (
        objects.http_route("h", parent=ON_FRONT[0], backends=[("two", 1)], namespace="team")
        if kind == "HTTPRoute"
        else streams.route("TCPRoute", "t", [("two", 1)], namespace="team", parentRefs=ON_FRONT)
    )
    assert ways(compiled(route("p", ["a.test"]), own)) == {
        "a.test": [("team", NOBODY), ("", to("one"))]
    }


def test_kinds_are_never_merged() -> None:
    http = objects.http_route("h", parent=ON_FRONT[0], backends=[("two", 1)])
    tcp = streams.route("TCPRoute", "t", [("two", 1)], parentRefs=ON_FRONT)
    both = compiled(route("r", ["a.test"]), http, tcp)
    assert SCOPE not in held(both)
    assert accepted(both, "TLSRoute", "r") == "Conflicted"
    compiler = compiled(route("r", ["a.test"]), tcp)
    assert accepted(compiler, "TCPRoute", "t") == "Conflicted"
    assert SCOPE in held(compiler)


def test_clients_are_led_to_envoy_when_all_that_it_needs_is_there() -> None:
    found = held(compiled(route("r", ["a.test"])))
    resource = found[ResourceName(types.SERVICE, "shop/front/80/tcp")]
    service = node_pb2.Service.FromString(resource.body)
    assert service.proxy
    assert [one.address for one in service.backends] == ["10.244.0.2"]
    assert SCOPE in resource.needs
    assert resource.needs | found[SCOPE].needs <= found.keys()
    assert {ResourceName(types.CLUSTER, "sni"), ResourceName(types.LISTENER, "sni")} <= found.keys()


def test_the_kernel_is_asked_to_judge_what_nobody_reads() -> None:
    compiler = compiled(route("r", ["a.test"]))
    body = held(compiler)[ResourceName(types.CLUSTER, "sni|shop/one/80")].body
    made = cluster_pb2.Cluster.FromString(body)
    marks = [one.int_value & 0xFFFFFFFF for one in made.upstream_bind_config.socket_options]
    assert marks == [UNREAD]


def test_pods_of_an_xbackend_have_tls_handed_on() -> None:
    picked = objects.xbackend("picked", {"app": "a"}, port=8443, protocol="TCP")
    pod = objects.pod("a", "10.244.0.8", {"app": "a"}, ready=True)
    found = held(compiled(picked, pod, route("r", ["a.test"], ("picked", 1))))
    assert found[SCOPE].needs <= found.keys()
    assert ResourceName(types.ENDPOINTS, "sni|shop/~picked") in found


def test_a_change_touches_the_scope_or_endpoints_only() -> None:
    compiler = compiled(route("r", ["a.test"], ("one", 1), ("two", 1)))
    for change, kind in (
        (route("r", ["a.test", "b.test"], ("one", 1), ("two", 9)), types.SCOPE),
        (objects.endpoint_slice("two", ["10.244.0.3", "10.244.0.4"]), types.ENDPOINTS),
    ):
        touched = [
            one.key
            for found in compiler.apply([Event(EventType.MODIFIED, change)])
            for one in found.delta.upserts
            if one.key.type_url not in types.NODE_TYPES
        ]
        assert {key.type_url for key in touched} == {kind}


def test_no_listener_of_a_pod_changes_with_routes() -> None:
    plain, routed = compiled(), compiled(route("r", ["a.test"]))
    listeners = [
        {key: one.body for key, one in held(compiler).items() if key.name.startswith("uid-")}
        for compiler in (plain, routed)
    ]
    assert len(listeners[0]) > 1
    assert listeners[0] == {key: listeners[1][key] for key in listeners[0]}


def test_without_server_names_there_is_nothing_of_it() -> None:
    compiler = compiled(route("r", ["a.test"]))
    compiler.apply([Event(EventType.DELETED, route("r", ["a.test"]))])
    assert not [key for key in held(compiler) if key.name.startswith("sni")]
