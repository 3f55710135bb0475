"""TCPRoutes and UDPRoutes on Services: what the kernel is told, and what their statuses say."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.shares import WHOLE
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects, policies, streams
from support.pki import issue

NODE = "n1"
ON_FRONT = [objects.on_service("front", "shop")]
KNOWN = (
    objects.service("front", "10.96.0.1", udp=True),
    objects.endpoint_slice("front", ["10.244.0.1"], udp=True),
    objects.service("one", "10.96.0.2", udp=True),
    objects.endpoint_slice("one", ["10.244.0.2", "10.244.0.3"], udp=True),
    objects.service("two", "10.96.0.3", udp=True),
    objects.endpoint_slice("two", ["10.244.0.4"], udp=True),
    objects.service("empty", "10.96.0.4", udp=True),
)
Told = dict[str, node_pb2.Service]


def route(
    name: str,
    *backends: tuple[str, int],
    kind: str = "TCPRoute",
    namespace: str = "shop",
    rules: list[dict[str, Any]] | None = None,
) -> Object | Broken:
    more: dict[str, Any] = {} if rules is None else {"rules": rules}
    return streams.route(kind, name, backends, namespace=namespace, parentRefs=ON_FRONT, **more)


def http(name: str, namespace: str = "shop", to: str = "two") -> Object | Broken:
    return objects.http_route(name, parent=ON_FRONT[0], backends=[(to, 1)], namespace=namespace)


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added([*KNOWN, *things]))
    assert compiler.failures == {}
    return compiler


def told(compiler: Compiler) -> Told:
    """Return what the kernel is told of Service front, by what its names have behind the port."""
    prefix = "shop/front/80/"
    return {
        one.name.removeprefix(prefix): node_pb2.Service.FromString(one.body)
        for one in compiler.resources(NODE)
        if one.type_url == types.SERVICE and one.name.startswith(prefix)
    }


def shares(service: node_pb2.Service) -> dict[str, float]:
    return {one.address: one.weight / WHOLE for one in service.backends}


def accepted(compiler: Compiler, route_kind: str, name: str) -> tuple[str, str]:
    """Return reason and message of the condition Accepted at the first parent."""
    return said(compiler, route_kind, name, kind="Accepted")


def said(compiler: Compiler, route_kind: str, name: str, *, kind: str) -> tuple[str, str]:
    """Return reason and message of a condition at the first parent."""
    thing = compiler.db.routes.get(ObjectRef(route_kind, "shop", name))
    status = status_of(compiler.db, thing, lambda _: None) if thing is not None else None
    assert status is not None
    (found,) = (one for one in status["parents"][0]["conditions"] if one["type"] == kind)
    return found["reason"], found["message"]


@pytest.mark.parametrize("carrier", ["tcp", "udp"])
def test_weights_are_those_of_the_route(carrier: str) -> None:
    kind = f"{carrier.upper()}Route"
    found = told(compiled(route("r", ("one", 3), ("two", 1), kind=kind)))
    assert found[carrier].routed
    assert not found[carrier].proxy
    assert shares(found[carrier]) == {
        "10.244.0.2": 0.375,
        "10.244.0.3": 0.375,
        "10.244.0.4": 0.25,
    }
    (other,) = found.keys() - {carrier}
    assert [one.address for one in found[other].backends] == ["10.244.0.1"]
    assert not found[other].routed


@pytest.mark.parametrize("lost", ["missing", "empty"])
def test_the_share_of_what_is_not_there_leads_to_port_0(lost: str) -> None:
    found = told(compiled(route("r", ("two", 3), (lost, 1))))["tcp"]
    assert shares(found) == {"0.0.0.0": 0.25, "10.244.0.4": 0.75}
    assert {one.address: one.port for one in found.backends}["0.0.0.0"] == 0


def test_both_families_of_addresses_have_all_shares() -> None:
    both = objects.made(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "front", "namespace": "shop"},
            "spec": {
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1", "fd96::1"],
                "ports": [{"port": 80}],
            },
        }
    )
    compiler = compiled(route("r", ("two", 1), ("missing", 1)))
    compiler.apply([Event(EventType.MODIFIED, both)])
    assert shares(told(compiler)["tcp"]) == {"0.0.0.0": 0.5, "10.244.0.4": 0.5, "::": 1.0}


def test_weights_that_are_all_0_and_a_route_that_cannot_be_read_lead_nowhere() -> None:
    assert not told(compiled(route("r", ("one", 0))))["tcp"].backends
    broken = told(compiled(route("r", ("one", 1), rules=[])))["tcp"]
    assert broken.routed
    assert not broken.backends


def test_a_consumer_route_is_for_its_namespace_and_the_producers_for_the_rest() -> None:
    found = told(compiled(route("p", ("one", 1)), route("c", ("two", 1), namespace="team")))
    assert found.keys() == {"tcp", "tcp/team", "udp"}
    assert found["tcp/team"].clients == "team"
    assert shares(found["tcp/team"]) == {"10.244.0.4": 1}
    assert shares(found["tcp"]) == {"10.244.0.2": 0.5, "10.244.0.3": 0.5}


def test_consumers_of_connections_leave_requests_of_producers_with_envoy() -> None:
    compiler = compiled(http("p"), route("c", ("one", 1), namespace="team"))
    found = told(compiler)
    assert (found["tcp"].proxy, found["tcp"].routed) == (True, False)
    assert (found["tcp/team"].proxy, found["tcp/team"].routed) == (False, True)


def test_consumers_of_requests_leave_connections_of_producers_with_the_kernel() -> None:
    compiler = compiled(route("p", ("one", 1)), http("c", "team"))
    found = told(compiler)
    assert (found["tcp"].proxy, found["tcp"].routed) == (False, True)
    assert (found["tcp/team"].proxy, found["tcp/team"].routed) == (True, False)
    assert any(one.type_url == types.SCOPE for one in compiler.resources(NODE))


@pytest.mark.parametrize("since", ["2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"])
def test_an_http_route_goes_before_a_tcp_route(since: str) -> None:
    tcp = streams.route("TCPRoute", "t", [("one", 1)], since=since, parentRefs=ON_FRONT)
    compiler = compiled(tcp, http("h"))
    assert accepted(compiler, "TCPRoute", "t") == ("Conflicted", "port 80 is had by HTTPRoutes")
    assert accepted(compiler, "HTTPRoute", "h")[0] == "Accepted"
    assert told(compiler)["tcp"].proxy


def test_datagrams_and_connections_of_one_port_number_do_not_conflict() -> None:
    compiler = compiled(http("h"), route("u", ("one", 1), kind="UDPRoute"))
    assert accepted(compiler, "UDPRoute", "u") == ("Accepted", "producer route of port 80")
    assert accepted(compiler, "HTTPRoute", "h")[0] == "Accepted"
    found = told(compiler)
    assert (found["tcp"].proxy, found["udp"].routed) == (True, True)


def test_of_several_routes_the_oldest_has_the_port_and_all_are_accepted() -> None:
    young = streams.route("TCPRoute", "a", [("two", 1)], parentRefs=ON_FRONT,
                          since="2026-02-01T00:00:00Z")  # fmt: skip
    compiler = compiled(young, route("z", ("one", 1)))
    assert {accepted(compiler, "TCPRoute", name)[0] for name in "az"} == {"Accepted"}
    assert "10.244.0.4" not in shares(told(compiler)["tcp"])
    compiler.apply([Event(EventType.DELETED, route("z"))])
    assert shares(told(compiler)["tcp"]) == {"10.244.0.4": 1}


def test_no_grant_is_asked_for_on_a_service() -> None:
    own = objects.service("own", "10.96.0.9", namespace="else")
    slice_ = objects.endpoint_slice("own", ["10.244.0.9"], namespace="else")
    refs = [{"backendRefs": [{"name": "own", "namespace": "else", "port": 80}]}]
    assert shares(told(compiled(own, slice_, route("r", rules=refs)))["tcp"]) == {"10.244.0.9": 1}


def test_weights_and_endpoints_change_nothing_but_what_the_kernel_is_told() -> None:
    compiler = compiled(
        objects.pod("client", "10.244.0.7", {"app": "client"}), route("r", ("one", 1), ("two", 1))
    )
    for change in (
        route("r", ("one", 1), ("two", 9)),
        objects.endpoint_slice("two", ["10.244.0.4", "10.244.0.5"]),
        route("r", ("one", 1), ("missing", 9)),
    ):
        touched = [
            one.key
            for found in compiler.apply([Event(EventType.MODIFIED, change)])
            for one in found.delta.upserts
        ]
        front = [key for key in touched if key.name.startswith("shop/front/")]
        assert front
        assert {key.type_url for key in touched} <= {types.SERVICE, types.RUNTIME}


def test_clients_whose_rules_read_http_go_by_the_route_at_envoy() -> None:
    allowed = policies.http_item("8080", {"method": "GET"})
    policy = objects.made(policies.cnp({
        "endpointSelector": policies.app("client"),
        "egress": [{"toEndpoints": [policies.app("one")], "toPorts": [allowed]}],
    }))  # fmt: skip
    compiler = compiled(
        objects.pod("client", "10.244.0.7", {"app": "client"}),
        objects.pod("one", "10.244.0.2", {"app": "one"}),
        route("r", ("one", 1), ("two", 3)),
        policy,
    )
    assert told(compiler)["tcp"].proxy
    held = {one.key: one for one in compiler.resources(NODE)}
    (scope,) = (
        one for one in held.values() if one.type_url == types.SCOPE and "10.96.0.1:80" in one.name
    )
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(scope.body)
    ((way,),) = (host.routes for host in made.route_configuration.virtual_hosts)
    names = [one.name for one in way.route.weighted_clusters.clusters]
    assert names == ["mesh|shop/one/80", "mesh|shop/two/80"]
    assert scope.needs <= held.keys()


SELECTED = (objects.pod("a", "10.244.0.8", {"app": "a"}, ready=True),)


def test_pods_of_an_xbackend_are_a_backend_like_any_other() -> None:
    picked = objects.xbackend("picked", {"app": "a"}, port=8080, protocol="TCP")
    found = told(compiled(picked, *SELECTED, route("r", ("picked", 1), ("two", 1))))["tcp"]
    assert shares(found) == {"10.244.0.4": 0.5, "10.244.0.8": 0.5}


def test_tls_that_nobody_begins_refuses_the_share_of_an_xbackend() -> None:
    authority = issue("authority")
    validation = {
        "hostname": "a.test",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
    }
    picked = objects.xbackend(
        "picked", {"app": "a"}, port=8080, tls={"mode": "ServerOnly", "validation": validation}
    )
    compiler = compiled(
        picked, *SELECTED, streams.tls("one", authority)[0], route("r", ("picked", 1))
    )
    assert shares(told(compiler)["tcp"]) == {"0.0.0.0": 1}
    reason, message = said(compiler, "TCPRoute", "r", kind="ResolvedRefs")
    assert reason == "UnsupportedProtocol"
    assert "is met with TLS" in message


def test_routes_on_services_cost_envoy_nothing() -> None:
    plain, routed = compiled(), compiled(route("r", ("one", 1), ("two", 1)))
    envoys = [
        {one.key for one in compiler.resources(NODE) if one.type_url not in types.NODE_TYPES}
        for compiler in (plain, routed)
    ]
    assert envoys[0] == envoys[1]


def test_services_that_only_streams_of_gateways_use_have_no_clusters_for_requests() -> None:
    gateway = objects.gateway("front", [{"name": "tcp", "protocol": "TCP", "port": 5000}])
    compiler = compiled(
        objects.gateway_class(), gateway, streams.route("TCPRoute", "r", [("one", 1)])
    )
    names = {one.name for one in compiler.resources(NODE) if one.type_url == types.CLUSTER}
    assert "stream|shop/front/5000|*" in names
    assert not [name for name in names if name.startswith(("gw|", "mesh|"))]
