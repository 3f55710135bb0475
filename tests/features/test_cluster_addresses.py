"""Addresses of Gateways and LoadBalancers in a cluster: who has them, and where they are served."""

from __future__ import annotations

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.core.events import EventType
from penstock.core.kinds import Service, ServiceCondition, ServiceStatus
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3.address_pb2 import SocketAddress
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects
from support.pool_cluster import (
    AT_NODES,
    NODES,
    POOL,
    answering,
    change,
    cluster,
    compiled,
    condition,
    of,
    opened,
    status,
)


def addresses(compiler: Compiler, thing: Object | Broken) -> list[str]:
    return [one["value"] for one in status(compiler, thing)["addresses"]]


def programmed(compiler: Compiler, thing: Object | Broken) -> tuple[str, str, str]:
    return condition(compiler, thing, "Programmed")


def test_one_node_answers_for_the_address_and_only_there_the_gateway_is_open() -> None:
    gateway = objects.gateway("gw")
    route = objects.http_route("r", parent={"name": "gw"}, backends=[("front", 1)])
    compiler = compiled(cluster(gateway, route, objects.service("front", "10.96.0.1")))
    (address,) = addresses(compiler, gateway)
    node = answering(compiler)[address]
    assert opened(compiler, "gateway/shop/gw/80") == {node: [(address, 80, "netns/host")]}
    assert programmed(compiler, gateway)[0] == "True"
    told = node_pb2.Address.FromString(of(compiler, node, types.ADDRESS)[address].body)
    assert (told.address, told.origins[0].name) == (address, "gw")
    assert [name for name in NODES if of(compiler, name, types.SCOPE)] == [node]


def test_a_listener_may_open_before_its_address_is_there() -> None:
    compiler = compiled(cluster(objects.gateway("gw"), objects.balanced("front", "10.96.0.1")))
    for name in ("gateway/shop/gw/80", "lb/shop/front/80"):
        (found,) = [of(compiler, node, types.LISTENER)[name] for node in opened(compiler, name)]
        assert listener_pb2.Listener.FromString(found.body).freebind.value


def test_gateways_dial_from_the_pod_of_envoy() -> None:
    route = objects.http_route("r", parent={"name": "gw"}, backends=[("front", 1)])
    things = cluster(objects.gateway("gw"), route, objects.service("front", "10.96.0.1"))
    made = of(compiled(things), "n1", types.CLUSTER)["gw|shop/front/80"]
    bind = cluster_pb2.Cluster.FromString(made.body).upstream_bind_config
    assert bind.source_address.network_namespace_filepath == "netns/node"


def test_when_a_node_goes_only_its_addresses_move() -> None:
    gateways = [objects.gateway(f"g{number}") for number in range(20)]
    compiler = compiled(cluster(*gateways))
    before = answering(compiler)
    assert set(before.values()) == set(NODES)
    change(compiler, objects.node("n2", "172.31.0.11", ready=False))
    after = answering(compiler)
    assert after.keys() == before.keys()
    assert "n2" not in after.values()
    assert {a: n for a, n in before.items() if n != "n2"}.items() <= after.items()
    change(compiler, objects.node("n2", "172.31.0.11"))
    assert answering(compiler) == before


def test_a_node_without_envoy_answers_for_nothing() -> None:
    envoy = objects.pod(
        "envoy-1", "10.244.1.2", {"app.kubernetes.io/name": "penstock-envoy"},
        namespace="penstock-system", node="n3",
    )  # fmt: skip
    gateways = [objects.gateway(f"g{number}") for number in range(8)]
    assert set(answering(compiled(cluster(*gateways, envoy))).values()) == {"n3"}


def test_without_a_ready_node_addresses_stay_where_they_were_and_the_status_says_so() -> None:
    gateway = objects.gateway("gw")
    compiler = compiled(cluster(gateway))
    before = opened(compiler, "gateway/shop/gw/80")
    for at, name in enumerate(NODES):
        change(compiler, objects.node(name, f"172.31.0.1{at}", ready=False))
    assert opened(compiler, "gateway/shop/gw/80") == before
    assert programmed(compiler, gateway)[:2] == ("False", "NoResources")
    assert len(addresses(compiler, gateway)) == 1


def test_nodes_that_come_back_one_by_one_have_their_addresses_all_the_time() -> None:
    """A node that stays away loses them when the others have been back for a while."""
    gateways = [objects.gateway(f"g{number}") for number in range(20)]
    compiler = compiled(cluster(*gateways))
    before = answering(compiler)
    assert set(before.values()) == set(NODES)
    missed, back, now = "2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z", 1_767_261_900
    compiler.tell_time(now - 30)
    for at, name in enumerate(NODES):
        change(compiler, objects.node(name, f"172.31.0.1{at}", ready=False, since=missed))
        assert name not in answering(compiler).values() or name == NODES[-1]
    assert answering(compiler) == before
    for at, name in enumerate(NODES[:-1]):
        change(compiler, objects.node(name, f"172.31.0.1{at}", since=back))
        assert answering(compiler) == before
    compiler.tell_time(now + 61)
    assert set(answering(compiler).values()) == set(NODES[:-1])
    last = NODES[-1]
    change(compiler, objects.node(last, f"172.31.0.1{len(NODES) - 1}", since=back))
    assert answering(compiler) == before


def test_without_nodes_a_gateway_is_not_programmed() -> None:
    gateway = objects.gateway("gw")
    compiler = compiled([objects.gateway_class(), gateway])
    assert opened(compiler, "gateway/shop/gw/80") == {}
    assert programmed(compiler, gateway)[:2] == ("False", "NoResources")


def test_a_heartbeat_of_a_node_costs_nothing() -> None:
    compiler = compiled(cluster(objects.gateway("gw")))
    beat = objects.made(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n1", "resourceVersion": "99", "annotations": {"beat": "1"}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "172.31.0.10"}],
                "conditions": [
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
                ],
            },
        }
    )
    runs = compiler.db.engine.runs
    assert change(compiler, beat) == 0
    assert compiler.db.engine.runs == runs


def test_an_address_that_is_asked_for_is_the_only_one() -> None:
    wanted = {"type": "IPAddress", "value": "172.31.0.150"}
    gateway = objects.gateway("gw", addresses=[wanted])
    compiler = compiled(cluster(gateway))
    assert status(compiler, gateway)["addresses"] == [wanted]
    assert list(answering(compiler)) == ["172.31.0.150"]
    assert programmed(compiler, gateway)[0] == "True"


def test_an_address_without_value_is_of_our_choice() -> None:
    gateway = objects.gateway("gw", addresses=[{"type": "IPAddress"}])
    compiler = compiled(cluster(gateway))
    assert len(addresses(compiler, gateway)) == 1
    assert programmed(compiler, gateway)[0] == "True"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("192.0.2.1", "192.0.2.1 is not in the pool 172.31.0.128/26"),
        ("172.31.0.140", "172.31.0.140 is Gateway shop/first's"),
    ],
)
def test_an_address_that_cannot_be_had_is_not_usable(wanted: str, why: str) -> None:
    first = objects.gateway("first", status=["172.31.0.140"])
    gateway = objects.gateway("gw", addresses=[{"value": wanted}])
    compiler = compiled(cluster(first, gateway))
    assert programmed(compiler, gateway) == ("False", "AddressNotUsable", why)
    assert opened(compiler, "gateway/shop/gw/80") == {}


def test_an_address_of_an_unknown_type_is_not_accepted() -> None:
    gateway = objects.gateway("gw", addresses=[{"type": "x.test/strange", "value": "what ever"}])
    compiler = compiled(cluster(gateway))
    (accepted,) = [c for c in status(compiler, gateway)["conditions"] if c["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "UnsupportedAddress")
    assert answering(compiler) == {}


def test_what_the_status_says_stays_whatever_others_come() -> None:
    old = objects.gateway("zz", status=["172.31.0.133"])
    others = [objects.gateway(f"a{number}") for number in range(60)]
    compiler = compiled(cluster(*others, old))
    assert addresses(compiler, old) == ["172.31.0.133"]


def test_a_gateway_of_another_class_has_no_address() -> None:
    things = cluster(objects.gateway_class(controller="x.test/other"), objects.gateway("gw"))
    assert answering(compiled(things)) == {}


def test_at_nodes_every_node_serves_at_its_own_address() -> None:
    gateway = objects.gateway("gw")
    compiler = compiled(cluster(gateway), AT_NODES)
    assert opened(compiler, "gateway/shop/gw/80") == {
        name: [(f"172.31.0.1{at}", 80, "netns/host")] for at, name in enumerate(NODES)
    }
    assert addresses(compiler, gateway) == ["172.31.0.10", "172.31.0.11", "172.31.0.12"]
    assert answering(compiler) == {}
    change(compiler, objects.node("n1", "172.31.0.10", ready=False))
    assert addresses(compiler, gateway) == ["172.31.0.11", "172.31.0.12"]


def test_at_nodes_a_port_is_one_gateways() -> None:
    second = objects.gateway("second")
    compiler = compiled(cluster(objects.gateway("first"), second), AT_NODES)
    assert opened(compiler, "gateway/shop/second/80") == {}
    (listener,) = status(compiler, second)["listeners"]
    (state,) = [one for one in listener["conditions"] if one["type"] == "Programmed"]
    assert state["message"] == "port 80 of the nodes is Gateway shop/first's"
    assert programmed(compiler, second)[0] == "False"


def test_at_nodes_an_address_is_a_nodes() -> None:
    gateway = objects.gateway("gw", addresses=[{"value": "192.0.2.1"}])
    compiler = compiled(cluster(gateway), AT_NODES)
    assert programmed(compiler, gateway)[:2] == ("False", "AddressNotUsable")


# LoadBalancers


def test_a_load_balancer_is_open_on_the_node_that_answers_for_it() -> None:
    service = objects.balanced("front", "10.96.0.1")
    compiler = compiled(cluster(service, objects.endpoint_slice("front", ["10.244.0.1"])))
    (entry,) = status(compiler, service)["loadBalancer"]["ingress"]
    address = entry["ip"]
    assert entry == {"ip": address, "ipMode": "VIP"}
    node = answering(compiler)[address]
    assert opened(compiler, "lb/shop/front/80") == {node: [(address, 80, "netns/host")]}
    for each in NODES:
        assert "lb|shop/front/80" in of(compiler, each, types.CLUSTER)
        assert "lb|shop/front/80" in of(compiler, each, types.ENDPOINTS)


def test_pods_reach_a_load_balancer_without_a_detour() -> None:
    service = objects.balanced("front", "10.96.0.1", loadBalancerIP="172.31.0.150")
    compiler = compiled(cluster(service))
    made = of(compiler, "n1", types.SERVICE)["shop/front/80/tcp"]
    assert list(node_pb2.Service.FromString(made.body).addresses) == ["10.96.0.1", "172.31.0.150"]


def test_routes_of_a_service_hold_at_its_load_balancer_address_too() -> None:
    service = objects.balanced("front", "10.96.0.1", loadBalancerIP="172.31.0.150")
    route = objects.http_route("r", parent=objects.on_service("front"), backends=[("front", 1)])
    scopes = of(compiled(cluster(service, route)), "n1", types.SCOPE)
    assert set(scopes) == {"eg|10.96.0.1:80", "eg|172.31.0.150:80"}


def test_only_the_sources_that_are_named_are_let_in() -> None:
    ranges = ["192.0.2.0/24", "198.51.100.7/32"]
    service = objects.balanced("front", "10.96.0.1", loadBalancerSourceRanges=ranges)
    compiler = compiled(cluster(service))
    (node,) = opened(compiler, "lb/shop/front/80")
    found = of(compiler, node, types.LISTENER)["lb/shop/front/80"]
    (chain,) = listener_pb2.Listener.FromString(found.body).filter_chains
    assert [
        f"{one.address_prefix}/{one.prefix_len.value}"
        for one in chain.filter_chain_match.source_prefix_ranges
    ] == ranges


@pytest.mark.parametrize(
    "spec", [{"loadBalancerClass": "x.test/other"}, {"type": "ClusterIP"}, {"type": "NodePort"}]
)
def test_a_service_that_is_not_ours_to_balance_is_left_alone(spec: dict[str, str]) -> None:
    service = objects.balanced("front", "10.96.0.1", **spec)
    compiler = compiled(cluster(service))
    assert answering(compiler) == {}
    assert status(compiler, service) == {}


def test_a_service_of_our_class_is_ours() -> None:
    service = objects.balanced("front", "10.96.0.1", loadBalancerClass="penstock.dev/pool")
    assert len(answering(compiled(cluster(service)))) == 1


def test_what_is_no_load_balancer_any_more_loses_its_address_in_the_status() -> None:
    was = objects.balanced("front", "10.96.0.1", type="ClusterIP", status=["172.31.0.140"])
    assert status(compiled(cluster(was)), was) == {"loadBalancer": {}}
    strange = objects.balanced("front", "10.96.0.1", type="ClusterIP", status=["192.0.2.1"])
    assert status(compiled(cluster(strange)), strange) == {}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("172.31.0.140", ("True", "Assigned", "")),
        (
            "192.0.2.1",
            ("False", "AddressNotUsable", "192.0.2.1 is not in the pool 172.31.0.128/26"),
        ),
    ],
)
def test_a_load_balancer_says_whether_it_has_its_address(
    wanted: str, expected: tuple[str, str, str]
) -> None:
    service = objects.balanced("front", "10.96.0.1", loadBalancerIP=wanted)
    (told,) = status(compiled(cluster(service)), service)["conditions"]
    assert told["type"] == "penstock.dev/AddressAssigned"
    assert (told["status"], told["reason"], told["message"]) == expected


def test_what_was_said_of_a_load_balancer_is_taken_back_with_its_class() -> None:
    other = objects.balanced("front", "10.96.0.1", loadBalancerClass="x.test/other")
    assert isinstance(other, Service)
    condition = ServiceCondition(type="penstock.dev/AddressAssigned")
    was = msgspec.structs.replace(other, status=ServiceStatus(conditions=(condition,)))
    assert status(compiled(cluster(was)), was) == {"conditions": []}


def test_addresses_of_a_pool_that_is_given_up_are_taken_back() -> None:
    pool = objects.balanced("front", "10.96.0.1", status=["172.31.0.140"])
    assert isinstance(pool, Service)
    condition = ServiceCondition(type="penstock.dev/AddressAssigned")
    ours = msgspec.structs.replace(
        pool, status=msgspec.structs.replace(pool.status, conditions=(condition,))
    )
    said = status(compiled(cluster(ours), AT_NODES), ours)
    assert said == {"loadBalancer": {}, "conditions": []}
    assert not status(compiled(cluster(pool), AT_NODES), pool)


def test_datagrams_have_a_listener_of_their_own() -> None:
    ports = [{"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "tcp", "port": 53}]
    service = objects.balanced("dns", "10.96.0.1", ports=ports)
    compiler = compiled(cluster(service))
    (entry,) = status(compiler, service)["loadBalancer"]["ingress"]
    assert set(entry) == {"ip", "ipMode"}
    (node,) = opened(compiler, "lb/shop/dns/53/udp")
    found = of(compiler, node, types.LISTENER)
    made = {name: listener_pb2.Listener.FromString(found[name].body) for name in found}
    assert made["lb/shop/dns/53/udp"].address.socket_address.protocol == SocketAddress.UDP
    assert made["lb/shop/dns/53"].address.socket_address.protocol == SocketAddress.TCP


def test_datagrams_are_not_let_in_where_sources_have_to_be_told_apart() -> None:
    service = objects.balanced(
        "dns", "10.96.0.1", ports=[{"port": 53, "protocol": "UDP"}],
        loadBalancerSourceRanges=["192.0.2.0/24"],
    )  # fmt: skip
    compiler = compiled(cluster(service))
    assert opened(compiler, "lb/shop/dns/53/udp") == {}
    (entry,) = status(compiler, service)["loadBalancer"]["ingress"]
    assert entry["ports"][0]["error"] == "penstock.dev/ProtocolNotServed"


def test_a_port_that_is_not_served_is_told_in_the_status() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "SCTP"}, {"name": "tcp", "port": 53}]
    service = objects.balanced("dns", "10.96.0.1", ports=ports)
    (entry,) = status(compiled(cluster(service)), service)["loadBalancer"]["ingress"]
    assert entry["ports"] == [
        {"port": 53, "protocol": "SCTP", "error": "penstock.dev/ProtocolNotServed"},
        {"port": 53, "protocol": "TCP"},
    ]


def test_gateways_and_load_balancers_share_the_pool() -> None:
    things = [objects.gateway(f"g{n}") for n in range(32)]
    things += [objects.balanced(f"s{n}", f"10.96.0.{n + 1}") for n in range(32)]
    assert len(answering(compiled(cluster(*things)))) == 64


def test_in_a_lab_a_load_balancer_is_a_service_like_any_other() -> None:
    service = objects.balanced("front", "10.96.0.1")
    compiler = compiled(cluster(service), Settings())
    assert answering(compiler) == {}
    assert status(compiler, service) == {}


def test_routes_are_followed_after_a_gateway_went_to_a_node() -> None:
    listeners = [
        {"name": name, "protocol": "HTTP", "port": 80, "hostname": f"{name}.test"} for name in "ab"
    ]
    route = objects.http_route("r", parent={"name": "gw"}, path="/x")
    compiler = Compiler(POOL)
    # without a node that answers, its routes are for all nodes; then for that one
    for one in (objects.gateway_class(), objects.gateway("gw", listeners), route):
        change(compiler, one, EventType.ADDED)
    change(compiler, objects.node("n1", "172.31.0.10"), EventType.ADDED)
    assert b"shop/r/0" in of(compiler, "n1", types.SCOPE)["gw|shop/gw/80|a.test"].body
    change(compiler, route, EventType.DELETED)
    assert b"shop/r/0" not in of(compiler, "n1", types.SCOPE)["gw|shop/gw/80|a.test"].body
