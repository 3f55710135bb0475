"""Services that keep traffic on a node: externalTrafficPolicy and internalTrafficPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.load_balancers import ADDRESS_ASSIGNED
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Settings
from penstock.core.events import EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects, streams
from support.pool_cluster import (
    NODES,
    answering,
    change,
    cluster,
    compiled,
    condition,
    of,
    opened,
    status,
)

EVERYWHERE = {"10.244.0.1": "n1", "10.244.0.2": "n2", "10.244.0.3": "n3"}


def outside(**spec: Any) -> Object | Broken:
    return objects.balanced("front", "10.96.0.1", externalTrafficPolicy="Local", **spec)


def inside(name: str = "front", ip: str = "10.96.0.1") -> Object | Broken:
    return objects.service(name, ip, internalTrafficPolicy="Local")


def endpoints(on: Mapping[str, str], name: str = "front", *, ready: bool = True) -> Object | Broken:
    return objects.endpoint_slice(name, on, on=on, ready=ready)


def led_to(compiler: Compiler, node: str, name: str) -> list[str] | None:
    """Return the endpoints of an Envoy cluster on a node; None if it is not there."""
    found = of(compiler, node, types.ENDPOINTS).get(name)
    if found is None:
        return None
    made = endpoint_pb2.ClusterLoadAssignment.FromString(found.body)
    return [
        one.endpoint.address.socket_address.address
        for locality in made.endpoints
        for one in locality.lb_endpoints
    ]


def told(compiler: Compiler, node: str, name: str = "shop/front/80/tcp") -> list[str]:
    """Return the backends of a Service port in the kernel of a node."""
    found = of(compiler, node, types.SERVICE)[name]
    return [one.address for one in node_pb2.Service.FromString(found.body).backends]


def assigned(compiler: Compiler, service: Object | Broken) -> tuple[str, str, str]:
    return condition(compiler, service, ADDRESS_ASSIGNED)


# From outside


@pytest.mark.parametrize("node", NODES)
def test_the_node_with_the_endpoint_answers(node: str) -> None:
    compiler = compiled(cluster(outside(), endpoints({"10.244.0.1": node})))
    assert list(answering(compiler).values()) == [node]
    assert list(opened(compiler, "lb/shop/front/80")) == [node]


def test_it_sends_to_its_own_endpoints_only() -> None:
    on = {"10.244.0.1": "n1", "10.244.0.2": "n2", "10.244.0.4": "n1", "10.244.0.5": "n2"}
    compiler = compiled(cluster(outside(), endpoints(on)))
    (node,) = answering(compiler).values()
    own = [address for address, where in on.items() if where == node]
    assert led_to(compiler, node, "lb|shop/front/80") == own
    for other in {*NODES} - {node}:
        assert led_to(compiler, other, "lb|shop/front/80") is None
        assert "lb|shop/front/80" not in of(compiler, other, types.CLUSTER)


def test_the_address_moves_with_the_last_endpoint_and_stays_the_same() -> None:
    service = outside()
    compiler = compiled(cluster(service, endpoints({"10.244.0.1": "n1", "10.244.0.2": "n1"})))
    (address,) = answering(compiler)
    change(compiler, endpoints({"10.244.0.2": "n1", "10.244.0.3": "n3"}))
    change(compiler, endpoints({"10.244.0.3": "n3"}))
    assert answering(compiler) == {address: "n3"}
    assert led_to(compiler, "n3", "lb|shop/front/80") == ["10.244.0.3"]
    change(compiler, endpoints({"10.244.0.3": "n3"}, ready=False))
    assert answering(compiler) == {}
    assert status(compiler, service)["loadBalancer"] == {
        "ingress": [{"ip": address, "ipMode": "VIP"}]
    }


def test_an_endpoint_that_comes_to_the_node_that_answers_is_told_there_only() -> None:
    compiler = compiled(cluster(outside(), endpoints({"10.244.0.1": "n1"})))
    assert change(compiler, endpoints({"10.244.0.1": "n1", "10.244.0.2": "n1"})) == 2
    # the other one is "all nodes": pods reach every endpoint by the kernel
    assert led_to(compiler, "n1", "lb|shop/front/80") == ["10.244.0.1", "10.244.0.2"]


def test_without_a_ready_endpoint_nobody_answers_and_the_status_says_so() -> None:
    service = outside()
    compiler = compiled(cluster(service, endpoints(EVERYWHERE, ready=False)))
    assert answering(compiler) == {}
    assert opened(compiler, "lb/shop/front/80") == {}
    good, reason, message = assigned(compiler, service)
    assert (good, reason) == ("False", "NoLocalEndpoints")
    assert message.endswith("the address is announced nowhere")


def test_an_endpoint_beside_no_envoy_is_none() -> None:
    service = outside()
    nodes = [objects.node("n1", "172.31.0.10"), objects.node("n2", "172.31.0.11", ready=False)]
    things = [*nodes, objects.gateway_class(), service, endpoints({"10.244.0.2": "n2"})]
    assert assigned(compiled(things), service)[:2] == ("False", "NoLocalEndpoints")


def test_the_status_says_whose_address_the_pods_see() -> None:
    service = outside()
    compiler = compiled(cluster(service, endpoints(EVERYWHERE)))
    good, reason, message = assigned(compiler, service)
    assert (good, reason) == ("True", "Assigned")
    assert message.endswith("they see the address of Envoy, not the client's")


def test_pods_reach_all_endpoints_at_that_address() -> None:
    compiler = compiled(cluster(outside(), endpoints(EVERYWHERE)))
    assert told(compiler, "n1") == sorted(EVERYWHERE)


def test_of_several_ports_one_with_an_endpoint_is_enough() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    compiler = compiled(cluster(outside(ports=ports), endpoints({"10.244.0.2": "n2"})))
    assert list(answering(compiler).values()) == ["n2"]
    assert led_to(compiler, "n2", "lb|shop/front/81") == []


def test_the_policy_may_change_back_and_forth() -> None:
    local, every = outside(), objects.balanced("front", "10.96.0.1")
    compiler = compiled(cluster(every, endpoints({"10.244.0.2": "n2"})))
    before = answering(compiler)
    change(compiler, local)
    assert list(answering(compiler).values()) == ["n2"]
    change(compiler, every)
    assert answering(compiler) == before
    for node in NODES:
        assert led_to(compiler, node, "lb|shop/front/80") == ["10.244.0.2"]


# From inside


def test_pods_reach_the_endpoints_of_their_own_node() -> None:
    compiler = compiled(cluster(inside(), endpoints(EVERYWHERE)))
    assert [told(compiler, node) for node in NODES] == [[one] for one in EVERYWHERE]


def test_on_a_node_without_endpoint_there_is_nobody_to_reach() -> None:
    compiler = compiled(cluster(inside(), endpoints({"10.244.0.1": "n1"})))
    assert [told(compiler, node) for node in NODES] == [["10.244.0.1"], [], []]


def test_an_endpoint_that_changes_is_told_to_its_node_only() -> None:
    compiler = compiled(cluster(inside(), endpoints(EVERYWHERE)))
    assert change(compiler, endpoints({**EVERYWHERE, "10.244.0.4": "n2"})) == 1
    assert told(compiler, "n2") == ["10.244.0.2", "10.244.0.4"]


def test_a_new_node_hears_of_it() -> None:
    compiler = compiled(cluster(inside(), endpoints({"10.244.0.9": "n4"})))
    change(compiler, objects.node("n4", "172.31.0.19"), EventType.ADDED)
    assert told(compiler, "n4") == ["10.244.0.9"]


def test_requests_go_to_the_endpoints_of_the_node_too() -> None:
    route = objects.http_route("r", parent=objects.on_service("front"), backends=[("front", 1)])
    compiler = compiled(cluster(inside(), endpoints(EVERYWHERE), route))
    for address, node in EVERYWHERE.items():
        assert led_to(compiler, node, "mesh|shop/front/80") == [address]


def test_what_a_route_leads_to_is_on_the_node_of_the_client() -> None:
    parent = [objects.on_service("front")]
    things = cluster(
        objects.service("front", "10.96.0.1"),
        inside("back", "10.96.0.2"),
        endpoints(EVERYWHERE, "back"),
    )
    tcp = streams.route("TCPRoute", "r", [("back", 1)], parentRefs=parent)
    compiler = compiled([*things, tcp])
    assert [told(compiler, node) for node in NODES] == [[one] for one in EVERYWHERE]
    tls = streams.route("TLSRoute", "r", [("back", 1)], parentRefs=parent, hostnames=["a.test"])
    compiler = compiled([*things, tls])
    for address, node in EVERYWHERE.items():
        assert led_to(compiler, node, "sni|shop/back/80") == [address]


def test_gateways_send_to_all_endpoints() -> None:
    route = objects.http_route("r", parent={"name": "gw"}, backends=[("front", 1)])
    things = cluster(objects.gateway("gw"), inside(), endpoints(EVERYWHERE), route)
    compiler = compiled(things)
    for node in NODES:
        assert led_to(compiler, node, "gw|shop/front/80") == sorted(EVERYWHERE)


def test_in_a_lab_every_endpoint_is_on_the_node() -> None:
    compiler = compiled([inside(), endpoints({"10.244.0.1": "lab"})], Settings())
    assert told(compiler, "n1") == ["10.244.0.1"]


# What is only wished


def test_preferences_of_zones_and_nodes_do_no_harm() -> None:
    service = objects.service("front", "10.96.0.1", trafficDistribution="PreferSameZone")
    hints = {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}
    hinted = objects.endpoint_slice("front", EVERYWHERE, on=EVERYWHERE, hints=hints)
    compiler = compiled(cluster(service, hinted))
    assert told(compiler, "n2") == sorted(EVERYWHERE)
    assert problems_of(compiler.db, service) == ()


# Clients that stay at their endpoint


def stays(compiler: Compiler) -> int:
    found = of(compiler, "n1", types.SERVICE)["shop/front/80/tcp"]
    return node_pb2.Service.FromString(found.body).stay_seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": "None"}, 0),
        ({"sessionAffinity": "ClientIP"}, 10_800),
        (
            {
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            },
            60,
        ),
    ],
)
def test_clients_stay_as_long_as_the_service_says(given: dict[str, Any], seconds: int) -> None:
    service = objects.service("front", "10.96.0.1", **given)
    compiler = compiled(cluster(service))
    assert stays(compiler) == seconds
    assert problems_of(compiler.db, service) == ()


def test_where_routes_decide_clients_do_not_stay_and_lint_says_so() -> None:
    service = objects.service("front", "10.96.0.1", sessionAffinity="ClientIP")
    parent = [objects.on_service("front")]
    for route in (
        objects.http_route("r", parent=parent[0], backends=[("front", 1)]),
        streams.route("TCPRoute", "r", [("front", 1)], parentRefs=parent),
    ):
        compiler = compiled(cluster(service, route))
        assert stays(compiler) == 0
        (problem,) = problems_of(compiler.db, service)
        assert (problem.path, problem.message) == (
            "spec.sessionAffinity",
            "ClientIP has no effect at port 80, where routes or rules of HTTP decide",
        )


def test_clients_outside_are_told_apart_by_their_address() -> None:
    def chosen(**spec: Any) -> tuple[int, int]:
        compiler = compiled(cluster(objects.balanced("front", "10.96.0.1", **spec)))
        (node,) = opened(compiler, "lb/shop/front/80")
        made = of(compiler, node, types.LISTENER)["lb/shop/front/80"]
        (chain,) = listener_pb2.Listener.FromString(made.body).filter_chains
        proxy = tcp_proxy_pb2.TcpProxy.FromString(chain.filters[0].typed_config.value)
        led = of(compiler, node, types.CLUSTER)["lb|shop/front/80"]
        return len(proxy.hash_policy), cluster_pb2.Cluster.FromString(led.body).lb_policy

    assert chosen() == (0, cluster_pb2.Cluster.ROUND_ROBIN)
    assert chosen(sessionAffinity="ClientIP") == (1, cluster_pb2.Cluster.MAGLEV)
