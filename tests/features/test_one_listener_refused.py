"""A port of a Gateway that an Envoy refuses: what statuses say of it, and of the other ports."""

from __future__ import annotations

from typing import Any

from penstock.controlplane.world import World
from penstock.core.events import Batch, Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from support import objects
from support.pool_cluster import AT_NODES, NODES, cluster

BUSY = "cannot bind '172.31.0.11:10250': Address already in use"
ALT, AGENT, KUBELET, BUSY_BEFORE = 8090, 15015, 10250, 80
NAMES = {ALT: "alt", AGENT: "agent", KUBELET: "kubelet", BUSY_BEFORE: "http"}
SECOND = ObjectRef("Gateway", "t", "second")


def gateway(*ports: int, takes_sets: bool = False) -> Object | Broken:
    listeners = [{"name": NAMES[port], "protocol": "HTTP", "port": port} for port in ports]
    allowed = {"namespaces": {"from": "Same" if takes_sets else "None"}}
    spec = {"gatewayClassName": "penstock", "listeners": listeners, "allowedListeners": allowed}
    later = "2026-01-01T00:00:00Z"
    return objects.gateway_api("Gateway", "second", spec, "t", creationTimestamp=later)


def added(*ports: int) -> Object | Broken:
    listeners = [{"name": NAMES[port], "protocol": "HTTP", "port": port} for port in ports]
    return objects.gateway_api(
        "ListenerSet", "more", {"parentRef": {"name": "second"}, "listeners": listeners}, "t"
    )


async def refusing(*things: Object | Broken, refused: str, by: str = "n2") -> World:
    """Return a cluster whose nodes have everything but what one of them refuses."""
    earlier = objects.gateway("shop", since="2025-01-01T00:00:00Z")
    world = World(AT_NODES)
    await world.take(Batch(tuple(objects.added(cluster(earlier, *things)))))
    for node in NODES:
        said = node_pb2.NodeReport(node=node)
        for one in world.compiler.resources(node):
            if one.name.startswith(refused) and node == by:
                said.resources.add(
                    type_url=one.type_url, name=one.name, rejected_version=one.version, detail=BUSY
                )
            else:
                said.in_force.add(type_url=one.type_url, versions={one.name: one.version})
        world.acknowledgements.on_report(node, said, full=True)
    return world


def said(holder: dict[str, Any], kind: str = "Programmed") -> tuple[str, str, str]:
    (one,) = [one for one in holder["conditions"] if one["type"] == kind]
    return one["status"], one["reason"], one["message"]


def status(world: World, ref: ObjectRef = SECOND) -> dict[str, Any]:
    found = world.status(world.objects[ref])
    assert found is not None
    return found


def listeners(found: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {one["name"]: said(one) for one in found["listeners"]}


REFUSED = (
    "False",
    "Invalid",
    f"Listener gateway/t/second/10250: {BUSY} (so say 1 of 3 nodes)",
)
SERVED = ("True", "Programmed", "")


async def test_a_port_that_an_envoy_refuses_leaves_the_other_ports_programmed() -> None:
    ports = (ALT, AGENT, KUBELET, BUSY_BEFORE)
    found = status(await refusing(gateway(*ports), refused="gateway/t/second/10250"))
    assert listeners(found) == {
        "alt": SERVED,
        "agent": SERVED,
        "kubelet": REFUSED,
        "http": ("False", "Invalid", "port 80 of the nodes is Gateway shop/shop's"),
    }
    assert said(found) == SERVED
    assert said(found, "DataPlaneAcked") == ("False", "Rejected", REFUSED[2])


async def test_a_gateway_whose_only_port_is_refused_is_not_programmed() -> None:
    found = status(await refusing(gateway(KUBELET), refused="gateway/t/second/10250"))
    assert listeners(found) == {"kubelet": REFUSED}
    assert said(found) == ("False", "Invalid", "no listener can be served")


async def test_what_all_ports_share_counts_against_all_of_them_when_it_is_refused() -> None:
    route = objects.http_route("r", parent={"name": "second"}, namespace="t")
    found = status(await refusing(gateway(ALT, AGENT), route, refused="gw|t/second/8090|"))
    assert {one[:2] for one in listeners(found).values()} == {("False", "Pending")}
    assert said(found) == ("False", "Pending", "no listener is served yet")


async def test_a_refused_port_of_a_listener_set_is_that_of_its_listener_only() -> None:
    things = gateway(ALT, takes_sets=True), added(AGENT, KUBELET)
    world = await refusing(*things, refused="gateway/t/second/10250")
    found = status(world, ObjectRef("ListenerSet", "t", "more"))
    assert listeners(found) == {"agent": SERVED, "kubelet": REFUSED}
    assert said(found)[0] == "True"
    of_gateway = status(world)
    assert (said(of_gateway), listeners(of_gateway)) == (SERVED, {"alt": SERVED})


async def test_a_listener_set_whose_ports_are_all_refused_is_not_programmed() -> None:
    things = gateway(ALT, takes_sets=True), added(KUBELET)
    world = await refusing(*things, refused="gateway/t/second/10250")
    found = status(world, ObjectRef("ListenerSet", "t", "more"))
    assert said(found) == ("False", "ListenersNotValid", "no listener can be served")


NOBODYS = "not served: listener http: port 80 of the nodes is Gateway shop/shop's"


def acked(world: World, name: str = "r") -> list[tuple[str, str, str]]:
    found = status(world, ObjectRef("HTTPRoute", "t", name))
    return [said(one, "DataPlaneAcked") for one in found["parents"]]


def route(*parents: dict[str, Any], name: str = "r") -> Object | Broken:
    spec = {"parentRefs": [*parents], "rules": [{"backendRefs": [{"name": "front", "port": 80}]}]}
    return objects.gateway_api("HTTPRoute", name, spec, "t")


async def test_a_route_is_not_in_force_where_its_only_listener_is_not_accepted() -> None:
    world = await refusing(gateway(BUSY_BEFORE), route({"name": "second"}), refused="nothing")
    (found,) = status(world, ObjectRef("HTTPRoute", "t", "r"))["parents"]
    assert said(found, "Accepted") == ("True", "Accepted", "attached to listener http")
    assert acked(world) == [("False", "NotServed", NOBODYS)]


async def test_a_route_is_in_force_where_one_of_its_listeners_is_served() -> None:
    parents = {"name": "second"}, {"name": "second", "sectionName": "http"}
    world = await refusing(gateway(ALT, BUSY_BEFORE), route(*parents), refused="nothing")
    assert acked(world) == [
        ("True", "Acked", "in force on 3 of 3 nodes"),
        ("False", "NotServed", NOBODYS),
    ]


async def test_a_route_at_a_listener_set_that_is_not_served_is_not_in_force() -> None:
    group = "gateway.networking.k8s.io"
    at_set = route({"group": group, "kind": "ListenerSet", "name": "more"})
    things = gateway(ALT, takes_sets=True), added(BUSY_BEFORE), at_set
    assert acked(await refusing(*things, refused="nothing")) == [("False", "NotServed", NOBODYS)]


async def test_what_an_envoy_says_of_a_route_goes_before() -> None:
    things = gateway(BUSY_BEFORE), route({"name": "second"})
    (found,) = acked(await refusing(*things, refused="gw|t/second/80|"))
    assert found[:2] == ("False", "Rejected")


async def test_a_route_is_in_force_once_the_port_is_given_to_its_gateway() -> None:
    world = await refusing(gateway(BUSY_BEFORE), route({"name": "second"}), refused="nothing")
    goals = world.compiler.statuses
    ref = ObjectRef("HTTPRoute", "t", "r")
    goals.follow(ref)
    goals.take()
    shop = world.objects[ObjectRef("Gateway", "shop", "shop")]
    await world.take(Batch((Event(EventType.DELETED, shop),)))
    assert ref in goals.take()
    assert "NotServed" not in {reason for _, reason, _ in acked(world)}


async def test_one_route_more_costs_no_look_at_the_others() -> None:
    runs: list[int] = []
    for count in (10, 200):
        routes = [at_host(number) for number in range(count)]
        world = await refusing(gateway(BUSY_BEFORE), *routes, refused="nothing")
        for one in (*routes, at_host(count)):
            world.compiler.statuses.follow(one.ref)
        before = world.compiler.db.engine.runs
        await world.take(Batch((Event(EventType.ADDED, at_host(count)),)))
        runs.append(world.compiler.db.engine.runs - before)
        (told,) = status(world, at_host(count).ref)["parents"]
        assert said(told, "DataPlaneAcked")[:2] == ("False", "NotServed")
    assert runs[1] <= runs[0]


def at_host(number: int) -> Object | Broken:
    return objects.http_route(
        f"r{number}", parent={"name": "second"}, namespace="t", hostnames=[f"h{number}.test"]
    )
