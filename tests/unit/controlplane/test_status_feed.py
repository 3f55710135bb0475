"""What the writer of statuses is told; a real one writes in tests/kube."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import cast

from penstock.compiler.settings import Settings
from penstock.controlplane.acknowledgements import Acknowledgements, Verdict
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.core.events import Batch, Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.sources.kubernetes.status_writer import StatusWriter, Version
from penstock.xds.resource import Resource
from support import many_listeners, objects
from support.fake_clock import FakeClock
from support.real_envoy import eventually


def version_of(kind: str) -> str:
    return f"of {kind}"


class FakeWriter:
    """Leads at once, and remembers what it is told to look at."""

    def __init__(self, feed: StatusFeed) -> None:
        self._feed = feed
        self.objects = None
        self.marks: list[tuple[ObjectRef, str]] = []
        self.leads = asyncio.Event()

    async def run(self) -> None:
        self._feed.statuses.leading(True)
        self.leads.set()

    def mark(self, ref: ObjectRef, seen: Version | None = None) -> None:
        self.marks.append((ref, "" if seen is None else seen.resource_version))


async def test_the_writer_hears_of_an_object_that_is_gone_so_that_it_keeps_nothing_of_it() -> None:
    world = World(Settings())
    route = objects.http_route("front", parent={"name": "gw"}, backends=[("front", 1)])
    await world.take(Batch(tuple(objects.added([objects.gateway_class(), route]))))
    feed = StatusFeed(world, FakeClock(), dict, version_of)
    writer = FakeWriter(feed)
    task = asyncio.create_task(feed.run(cast("StatusWriter", writer)))
    try:
        async with asyncio.timeout(30):
            await writer.leads.wait()
        writer.marks.clear()
        await world.take(Batch((Event(EventType.DELETED, route),)))
        assert (route.ref, "") in writer.marks
        assert feed.desired(route.ref) is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


GATEWAY = ObjectRef("Gateway", "shop", "gw")


def route(name: str = "front", path: str = "/") -> Object | Broken:
    backends = [("front", 1)]
    return objects.http_route(name, parent={"name": "gw"}, path=path, backends=backends)


class Shop:
    """A Gateway with a route, and one node, which has everything; a feed that leads."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.world = World(Settings(), self.clock)
        self.feed = StatusFeed(self.world, self.clock, dict, version_of)
        self.writer = FakeWriter(self.feed)
        self.has: tuple[Resource, ...] = ()

    @contextlib.asynccontextmanager
    async def led(self) -> AsyncGenerator[None]:
        things = [
            objects.gateway_class(),
            objects.gateway("gw"),
            objects.service("front", "10.96.0.1"),
            objects.endpoint_slice("front", ["10.244.0.1"]),
            route(),
        ]
        await self.world.take(Batch(tuple(objects.added(things))))
        self.report(full=True)
        task = asyncio.create_task(self.feed.run(cast("StatusWriter", self.writer)))
        try:
            async with asyncio.timeout(5):
                await self.writer.leads.wait()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def add(self, thing: Object | Broken) -> None:
        await self.world.take(Batch((Event(EventType.ADDED, thing),)))

    async def remove(self, thing: Object | Broken) -> None:
        await self.world.take(Batch((Event(EventType.DELETED, thing),)))

    def report(self, *, full: bool = False, refuses: str = "") -> None:
        """Have the node say what it has: all that it should, but for what it refuses."""
        before = {one.key for one in self.has}
        self.has = tuple(self.world.compiler.resources("n1"))
        said = node_pb2.NodeReport(node="n1")
        for one in self.has:
            if one.name == refuses:
                about = said.resources.add(type_url=one.type_url, name=one.name, detail="busy")
                about.rejected_version = one.version
            else:
                said.in_force.add(type_url=one.type_url, versions={one.name: one.version})
        for key in before - {one.key for one in self.has}:
            said.resources.add(type_url=key.type_url, name=key.name)
        self.world.acknowledgements.on_report("n1", said, full)

    async def look(self) -> None:
        """Let a second pass, and what is done each second be done."""
        await eventually(lambda: self.clock.sleepers > 0)
        self.clock.advance(1)
        await eventually(lambda: self.clock.sleepers > 0)

    def stays(self, ref: ObjectRef) -> bool:
        """Return whether what a status says of an object that is in force stays."""
        found = self.feed.desired(ref)
        return found is not None and found.in_force_stays

    def told(self, ref: ObjectRef, kind: str) -> str:
        """Return the reason of a condition, "" if nothing is to be told."""
        found = self.feed.desired(ref)
        status = {} if found is None else found.status or {}
        entry = status["parents"][0] if "parents" in status else status
        return next((c["reason"] for c in entry.get("conditions", ()) if c["type"] == kind), "")


async def test_an_object_that_is_made_anew_is_not_in_force_because_another_was() -> None:
    shop = Shop()
    async with shop.led():
        await shop.look()
        assert shop.told(route().ref, "DataPlaneAcked") == "Acked"
        await shop.remove(route())
        shop.report()
        await shop.add(route())
        assert shop.told(route().ref, "DataPlaneAcked") == "Pending"


async def test_a_gateway_whose_class_goes_says_so_where_it_told_of_us() -> None:
    shop, class_ = Shop(), objects.gateway_class()
    async with shop.led():
        assert shop.told(GATEWAY, "Programmed") == "Programmed"
        shop.writer.marks.clear()
        await shop.remove(class_)
        assert (GATEWAY, "") in shop.writer.marks
        found = shop.feed.desired(GATEWAY)
        assert found is not None
        assert found.status is None
        left = found.afterwards or {}
        said = {one["type"]: (one["status"], one["reason"]) for one in left["conditions"]}
        assert said == {"Accepted": ("Unknown", "Pending"), "Programmed": ("False", "Pending")}
        assert f"GatewayClass {class_.metadata.name} does not exist" in str(left["conditions"])
        assert left["addresses"] == left["listeners"] == []
        shop.writer.marks.clear()
        await shop.add(class_)
        assert (GATEWAY, "") in shop.writer.marks
        found = shop.feed.desired(GATEWAY)
        assert found is not None
        assert found.status is not None
        assert found.afterwards is None


async def test_a_gateway_that_goes_to_the_class_of_others_is_left_to_them() -> None:
    shop = Shop()
    async with shop.led():
        await shop.remove(objects.gateway_class())
        await shop.add(objects.gateway_class(controller="example.com/other"))
        found = shop.feed.desired(GATEWAY)
        assert found is not None
        assert found.status is found.afterwards is None


async def test_a_gateway_whose_routes_change_without_end_stays_programmed() -> None:
    shop = Shop()
    async with shop.led():
        for turn in range(40):
            assert shop.told(GATEWAY, "Programmed") == "Programmed"
            shop.report()
            await shop.add(route(f"route-{turn}", f"/{turn}"))
            await shop.look()


async def test_who_takes_over_does_not_tell_that_what_is_on_its_way_is_not_in_force() -> None:
    shop = Shop()
    async with shop.led():
        await shop.add(route("more", "/more"))
        shop.feed.statuses.leading(False)
        shop.feed.statuses.leading(True)
        assert shop.stays(GATEWAY)
        assert shop.told(GATEWAY, "DataPlaneAcked") == "Pending"  # unless the status says more
        shop.report()
        shop.writer.marks.clear()
        await shop.look()
        assert (GATEWAY, "") in shop.writer.marks
        assert shop.told(GATEWAY, "Programmed") == "Programmed"
        assert not shop.stays(GATEWAY)


async def test_a_listener_set_is_not_programmed_because_its_gateway_was_before() -> None:
    shop = Shop()
    first, more = (many_listeners.listener_set(index) for index in range(2))
    edge = ObjectRef("Gateway", "shop", "edge")
    async with shop.led():
        for thing in (*many_listeners.cluster(0), first):
            await shop.add(thing)
        shop.report()
        await shop.look()
        for ref in (edge, first.ref):
            assert shop.told(ref, "Programmed") == "Programmed"
        await shop.add(more)
        assert shop.told(more.ref, "Accepted") == "Accepted"
        assert shop.told(more.ref, "Programmed") == "Pending"
        await shop.look()
        for ref in (edge, first.ref):
            assert shop.told(ref, "Programmed") == "Programmed"
        shop.report()
        shop.writer.marks.clear()
        await shop.look()
        assert (more.ref, "") in shop.writer.marks
        assert (first.ref, "") not in shop.writer.marks
        assert shop.told(more.ref, "Programmed") == "Programmed"


async def test_what_is_new_on_a_gateway_whose_routes_change_without_end_is_programmed() -> None:
    shop = Shop()
    more, edge = many_listeners.listener_set(0), ObjectRef("Gateway", "shop", "edge")
    async with shop.led():
        for thing in many_listeners.cluster(0):
            await shop.add(thing)
        shop.report()
        await shop.look()
        said: list[str] = []
        for turn in range(5):
            if turn == 1:
                await shop.add(more)
            await shop.add(on_edge(turn, "/a"))
            said.append(shop.told(more.ref, "Programmed"))
            shop.report()
            await shop.add(on_edge(turn, "/b"))  # on its way when nodes are asked
            await shop.look()
            assert shop.told(edge, "Programmed") == "Programmed"
        assert said == ["", "Pending", "Pending", "Programmed", "Programmed"]


def on_edge(turn: int, path: str) -> Object | Broken:
    name = f"{path[1:]}-{turn}"
    return objects.http_route(name, parent={"name": "edge"}, backends=[("app", 1)], path=path)


class Mistaken(Acknowledgements):
    """Fails about one object."""

    def verdict(self, ref: ObjectRef) -> Verdict | None:
        if ref == route().ref:
            raise ValueError("a mistake of ours")
        return super().verdict(ref)


async def test_a_mistake_about_one_object_leaves_all_others_their_statuses() -> None:
    shop = Shop()
    shop.world.acknowledgements = Mistaken(shop.clock)
    shop.feed = StatusFeed(shop.world, shop.clock, dict, version_of)
    shop.writer = FakeWriter(shop.feed)
    other = route("other", "/other")
    async with shop.led():
        await shop.add(other)
        shop.writer.marks.clear()
        shop.report()
        await shop.look()
        assert (other.ref, "") in shop.writer.marks
        assert shop.feed.desired(route().ref) is None
        assert shop.told(other.ref, "DataPlaneAcked") == "Acked"


def _two_listeners() -> Object | Broken:
    tls = {"certificateRefs": [{"name": "late"}]}
    return objects.gateway(
        "gw",
        [
            {"name": "http", "protocol": "HTTP", "port": 80},
            {"name": "https", "protocol": "HTTPS", "port": 443, "tls": tls},
        ],
    )


def _programmed(shop: Shop, ref: ObjectRef) -> dict[str, str]:
    """Return name → reason of Programmed of each listener, as it would be written now."""
    found = shop.feed.desired(ref)
    assert found is not None
    assert found.status is not None
    return {
        listener["name"]: one["reason"]
        for listener in found.status["listeners"]
        for one in listener["conditions"]
        if one["type"] == "Programmed"
    }


async def test_a_listener_whose_secret_comes_later_is_programmed_when_nodes_have_it() -> None:
    shop = Shop()
    late = many_listeners.secret("late", "a.test")
    async with shop.led():
        await shop.add(_two_listeners())
        shop.report()
        await shop.look()
        assert _programmed(shop, GATEWAY) == {"http": "Programmed", "https": "Invalid"}
        await shop.add(late)
        assert _programmed(shop, GATEWAY) == {"http": "Programmed", "https": "Pending"}
        assert shop.told(GATEWAY, "Programmed") == "Programmed"
        shop.report()
        shop.writer.marks.clear()
        await shop.look()
        assert (GATEWAY, "") in shop.writer.marks
        assert _programmed(shop, GATEWAY) == {"http": "Programmed", "https": "Programmed"}
        shop.writer.marks.clear()
        await shop.look()
        assert shop.writer.marks == []


async def test_so_is_one_of_a_gateway_that_changes_all_the_time() -> None:
    shop = Shop()
    async with shop.led():
        await shop.add(_two_listeners())
        shop.report()
        await shop.look()
        assert _programmed(shop, GATEWAY)["https"] == "Invalid"
        await shop.add(many_listeners.secret("late", "a.test"))
        assert _programmed(shop, GATEWAY)["https"] == "Pending"
        shop.clock.advance(1)
        shop.report()
        await shop.add(objects.http_route("next", parent={"name": "gw"}, hostnames=["b.test"]))
        assert _programmed(shop, GATEWAY) == {"http": "Programmed", "https": "Programmed"}


async def test_so_is_one_of_a_listener_set() -> None:
    shop = Shop()
    one = many_listeners.listener_set(0, "late")
    async with shop.led():
        for thing in (*many_listeners.cluster(0), one):
            await shop.add(thing)
        shop.report()
        await shop.look()
        assert _programmed(shop, one.ref) == {"web": "Invalid"}
        shop.report()
        await shop.look()
        await shop.add(many_listeners.secret("late", "*.many.test"))
        assert _programmed(shop, one.ref) == {"web": "Pending"}
        shop.report()
        shop.writer.marks.clear()
        await shop.look()
        assert (one.ref, "") in shop.writer.marks
        assert _programmed(shop, one.ref) == {"web": "Programmed"}


async def test_a_refused_port_leaves_the_others_programmed_while_routes_change_without_end() -> (
    None
):
    shop, port = Shop(), "gateway/shop/gw/8080"
    ports = [{"name": name, "protocol": "HTTP", "port": at} for name, at in _PORTS.items()]
    async with shop.led():
        await shop.add(objects.gateway("gw", ports))
        shop.report(refuses=port)
        await shop.look()
        for turn in range(40):
            assert _programmed(shop, GATEWAY) == {"free": "Programmed", "busy": "Invalid"}
            assert shop.told(GATEWAY, "Programmed") == "Programmed"
            assert shop.told(GATEWAY, "DataPlaneAcked") == "Rejected"
            shop.report(refuses=port)
            await shop.add(route(f"route-{turn}", f"/{turn}"))
            await shop.look()
        shop.report()
        shop.writer.marks.clear()
        await shop.look()
        assert (GATEWAY, "") in shop.writer.marks
        assert _programmed(shop, GATEWAY) == {"free": "Programmed", "busy": "Programmed"}
        assert shop.told(GATEWAY, "DataPlaneAcked") == "Acked"


_PORTS = {"free": 80, "busy": 8080}
