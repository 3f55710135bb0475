"""Which controllers an agent finds by what an API server says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.ads.dial import Controller
from penstock.agent.cluster import (
    STAGGER_SECONDS,
    ApiAccess,
    ControllerFinder,
    ready_controllers,
)
from penstock.core.events import Batch, Event, EventType
from penstock.core.kinds import (
    ConfigMap,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
)
from penstock.core.objects import ObjectMeta
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.access import Access
from support.fake_clock import FakeClock

SERVICE = NamespacedName("penstock-system", "penstock-controller")


def endpoints(
    name: str, *addresses: str, ready: bool | None = True, ads: int | None = 15012
) -> EndpointSlice:
    ports = (EndpointPort(name="ads", port=ads), EndpointPort(name="join", port=15013))
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace="penstock-system"),
        address_type="IPv4",
        ports=ports,
        endpoints=tuple(
            Endpoint(addresses=(one,), conditions=EndpointConditions(ready=ready))
            for one in addresses
        ),
    )


def test_ready_endpoints_of_all_slices_are_controllers() -> None:
    found = ready_controllers([
        endpoints("b", "10.0.0.2", "10.0.0.1"),
        endpoints("a", "10.0.0.3", ready=False),
        endpoints("c", "10.0.0.4", ready=None, ads=1234),
    ])  # fmt: skip
    assert found == (
        Controller(host="10.0.0.1"),
        Controller(host="10.0.0.2"),
        Controller(host="10.0.0.4", ads=1234),
    )


def test_a_port_without_a_number_is_the_usual_one() -> None:
    assert ready_controllers([endpoints("a", "10.0.0.1", ads=None)]) == (
        Controller(host="10.0.0.1"),
    )


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    def finder(self) -> ControllerFinder:
        api = ApiAccess(Access(server="http://127.0.0.1:1"), {})
        memory = self.folder / "controllers.json"
        return ControllerFinder(api, SERVICE, self.clock, authority=self.authority, memory=memory)


def told(kind: EventType, *objects: EndpointSlice | ConfigMap) -> Batch:
    return Batch(tuple(Event(kind, one) for one in objects))


def authority() -> ConfigMap:
    metadata = ObjectMeta(name="penstock-ca", namespace="penstock-system")
    return ConfigMap(metadata=metadata, data={"ca.crt": "PEM"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_controllers_are_there_when_their_authority_is_there_too(world: World) -> None:
    finder = world.finder()
    waiting = asyncio.create_task(finder.controllers())
    await finder.take(told(EventType.ADDED, endpoints("a", "10.0.0.1")))
    await asyncio.sleep(0)
    assert not waiting.done()
    await finder.take(told(EventType.ADDED, authority()))
    assert world.authority.read_text() == "PEM"
    while not world.clock.sleepers:  # noqa: ASYNC110 - the fake clock has no event
        await asyncio.sleep(0)
    world.clock.advance(STAGGER_SECONDS)
    assert await waiting == (Controller(host="10.0.0.1"),)


async def test_a_controller_that_is_gone_is_not_asked_any_more(world: World) -> None:
    finder = world.finder()
    both = told(
        EventType.ADDED, authority(), endpoints("a", "10.0.0.1"), endpoints("b", "10.0.0.2")
    )
    await finder.take(both)
    await finder.take(told(EventType.DELETED, endpoints("a", "10.0.0.1")))
    assert await finder.controllers() == (Controller(host="10.0.0.2"),)


async def test_an_agent_that_starts_without_the_api_server_asks_those_it_knew(
    world: World,
) -> None:
    await world.finder().take(told(EventType.ADDED, authority(), endpoints("a", "10.0.0.1")))
    later = world.finder()
    assert await later.controllers() == (Controller(host="10.0.0.1"),)
    await later.take(told(EventType.ADDED, endpoints("a", "10.0.0.9")))
    assert await later.controllers() == (Controller(host="10.0.0.9"),)


async def test_what_was_remembered_and_cannot_be_read_counts_for_nothing(world: World) -> None:
    (world.folder / "controllers.json").write_text('[{"host": ')
    finder = world.finder()
    await finder.take(told(EventType.ADDED, authority(), endpoints("a", "10.0.0.1")))
    assert await finder.controllers() == (Controller(host="10.0.0.1"),)
