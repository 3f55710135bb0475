"""The controller's state: nobody is served too early, nodes are told what changed."""

from __future__ import annotations

import asyncio

from penstock.compiler.lent import Sharing
from penstock.compiler.settings import Reach, Settings
from penstock.controlplane.world import World
from penstock.core.events import Batch, Event, EventType
from penstock.meta.names import ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.snapshot import Delta
from support import objects
from support.lenders import Lender


def _shop() -> Batch:
    things = [
        objects.gateway_class(),
        objects.gateway("gw"),
        objects.service("front", "10.96.0.1"),
        objects.endpoint_slice("front", ["10.244.0.1"]),
        objects.pod("front-0", "10.244.0.1", {"app": "front"}),
        objects.http_route("front", parent={"name": "gw"}, backends=[("front", 1)]),
    ]
    return Batch(tuple(objects.added(things)))


async def test_a_node_waits_until_everything_is_synced() -> None:
    world = World(Settings())
    asked = asyncio.create_task(world.snapshot_for("n1"))
    await asyncio.sleep(0)
    assert not asked.done()
    await world.take(_shop())
    snapshot = await asked
    assert snapshot.get(types.LISTENER, "gateway/shop/gw/80") is not None
    assert snapshot.get(types.LISTENER, "uid-Pod/shop/front-0/egress") is not None


async def test_other_nodes_do_not_get_the_listeners_of_a_pod() -> None:
    world = World(Settings())
    await world.take(_shop())
    snapshot = await world.snapshot_for("n2")
    assert list(snapshot.of_type(types.LISTENER)) == ["gateway/shop/gw/80"]
    assert list(snapshot.of_type(types.WORKLOAD)) == ["uid-Pod/shop/front-0"]


async def test_a_served_node_is_told_changes_only() -> None:
    world = World(Settings())
    await world.take(_shop())
    await world.snapshot_for("n1")
    told: list[Delta] = []
    world.subscribe("n1", told.append)
    more = objects.endpoint_slice("front", ["10.244.0.1", "10.244.0.2"])
    await world.take(Batch((Event(EventType.MODIFIED, more),)))
    names = [[r.name for r in delta.upserts] for delta in told]
    assert names == [["gw|shop/front/80", "shop/front/80/tcp"]]


async def test_what_every_node_has_is_held_once() -> None:
    world = World(Settings())
    await world.take(_shop())
    one, two = await world.snapshot_for("n1"), await world.snapshot_for("n2")
    own = {name.name for name in (r.key for r in one) if one.own(name.type_url).get(name.name)}
    assert own == {r.name for r in one} - {r.name for r in two}
    assert own
    for node, snapshot in (("n1", one), ("n2", two)):
        assert {r.key: r for r in snapshot} == {r.key: r for r in world.compiler.resources(node)}
        assert world.size_of(node) == len(snapshot)


async def test_a_pod_that_is_bound_later_is_told_to_its_node_only() -> None:
    world = World(Settings())
    await world.take(_shop())
    snapshot = await world.snapshot_for("n2")
    told: dict[str, list[Delta]] = {"n1": [], "n2": []}
    for node, deltas in told.items():
        world.subscribe(node, deltas.append)
    pod = objects.pod("front-1", "10.244.1.1", {"app": "front"}, node="n2")
    await world.take(Batch((Event(EventType.ADDED, pod),)))
    assert snapshot.get(types.LISTENER, "uid-Pod/shop/front-1/egress") is not None
    kinds = {node: {r.type_url for d in told[node] for r in d.upserts} for node in told}
    assert kinds["n2"] - kinds["n1"] == {types.LISTENER}


async def test_a_status_says_what_the_data_plane_said() -> None:
    world = World(Settings())
    await world.take(_shop())
    route = world.objects[ObjectRef("HTTPRoute", "shop", "front")]
    world.acknowledgements.on_report("n1", node_pb2.NodeReport(node="n1"), full=True)

    def acked() -> tuple[str, str]:
        status = world.status(route)
        assert status is not None
        conditions = {c["type"]: c for c in status["parents"][0]["conditions"]}
        assert conditions["Accepted"]["status"] == "True"
        found = conditions["DataPlaneAcked"]
        return found["status"], found["reason"]

    assert acked() == ("Unknown", "Pending")
    report = node_pb2.NodeReport(node="n1")
    resources = world.compiler.resources("n1")
    for one in resources:
        report.in_force.add(type_url=one.type_url, versions={one.name: one.version})
    world.acknowledgements.on_report("n1", report, full=True)
    assert acked() == ("True", "Acked")
    scope = next(r for r in resources if r.name.startswith("gw|shop/gw/80|"))
    (told,) = (r for r in report.in_force if scope.name in r.versions)
    report.in_force.remove(told)
    report.resources.add(
        type_url=scope.type_url, name=scope.name,
        rejected_version=scope.version, detail="no such thing",
    )  # fmt: skip
    world.acknowledgements.on_report("n1", report, full=True)
    assert acked() == ("False", "Rejected")


async def test_time_that_passes_is_told_like_a_batch_without_events() -> None:
    world = World(Settings())
    await world.take(_shop())
    told: list[Batch] = []
    world.on_batch = told.append
    before = world.changes
    world.tell_time(1_800_000_000.0)
    assert told == [Batch(())]
    assert world.changes == before


async def test_a_node_that_is_lost_does_not_count_unless_it_reports() -> None:
    world = World(Settings())
    await world.take(_shop())
    nodes = [objects.node("n1", "10.0.0.1"), objects.node("n2", "10.0.0.2", ready=False)]
    await world.take(Batch(tuple(objects.added(nodes))))
    assert list(world.acknowledgements.reporting) == ["n1"]
    world.acknowledgements.on_report("n2", node_pb2.NodeReport(), full=True)
    assert list(world.acknowledgements.reporting) == ["n1", "n2"]
    world.acknowledgements.on_silence("n2")
    assert list(world.acknowledgements.reporting) == ["n1"]


async def test_of_a_node_whose_client_went_away_before_its_turn_nothing_is_kept() -> None:
    world = World(Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28"))
    nodes = [objects.node(f"n{number}", f"172.31.0.1{number}") for number in (1, 2, 3)]
    await world.take(Batch(tuple(objects.added(nodes))))
    kept = await world.snapshot_for("n1")
    world.subscribe("n1", lambda _: None)()
    await world.snapshot_for("n1")
    world.forgo("n1")
    await world.take(Batch(tuple(Event(EventType.DELETED, one) for one in nodes[:2])))
    assert await world.snapshot_for("n1") is not kept


async def test_of_a_node_that_is_gone_nothing_is_kept() -> None:
    world = World(Settings(reach=Reach.CLUSTER, gateway_pool="192.0.2.0/28"))
    nodes = [objects.node(f"n{number}", f"172.31.0.1{number}") for number in (1, 2)]
    await world.take(_shop())
    await world.take(Batch(tuple(objects.added(nodes))))
    kept = {node: await world.snapshot_for(node) for node in ("n1", "n2")}
    unsubscribe = {node: world.subscribe(node, lambda _: None) for node in kept}
    late = await world.snapshot_for("n2")  # of a stream that does not follow it yet
    for one in unsubscribe.values():
        one()
    await world.take(Batch(tuple(objects.added([objects.node("n3", "172.31.0.13")]))))
    await world.take(Batch(tuple(Event(EventType.DELETED, one) for one in nodes)))
    assert world.size_of("n1") > 0  # a pod is there
    pod = objects.pod("front-0", "10.244.0.1", {"app": "front"})
    await world.take(Batch((Event(EventType.DELETED, pod),)))
    assert world.size_of("n1") == 0
    assert await world.snapshot_for("n1") is not kept["n1"]
    assert late is await world.snapshot_for("n2") is kept["n2"]


async def test_what_is_lent_is_served_at_once_and_changes_come_when_it_is_compiled() -> None:
    world = World(Settings(), sharing=Sharing(Lender(), many=1, part=1))
    catching_up = asyncio.create_task(world.catch_up())
    take = world.when_level(world.take)
    await take(_shop())
    behind = world.compiler.behind
    assert behind > 1
    snapshot = await world.snapshot_for("n1")
    name = "gw|shop/front/80"
    before = snapshot.get(types.ENDPOINTS, name)
    assert before is not None
    told: list[Delta] = []
    world.subscribe("n1", told.append)
    more = objects.endpoint_slice("front", ["10.244.0.1", "10.244.0.2"])
    taking = asyncio.ensure_future(take(Batch((Event(EventType.MODIFIED, more),))))
    await asyncio.sleep(0)
    assert 0 < world.compiler.behind <= behind
    assert world.batches == 1
    await taking
    assert world.compiler.behind == 0
    catching_up.cancel()
    ((after,),) = [[r for r in delta.upserts if r.name == name] for delta in told if delta.upserts]
    fresh = World(Settings())
    await fresh.take(_shop())
    await fresh.take(Batch((Event(EventType.MODIFIED, more),)))
    assert after == (await fresh.snapshot_for("n1")).get(types.ENDPOINTS, name)
    assert after != before
