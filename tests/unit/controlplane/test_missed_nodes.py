"""Nodes that are missed within a moment of each other are told at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from penstock.controlplane.missed_nodes import MOMENT, MissedNodes
from penstock.core.events import Batch, Event, EventType
from penstock.core.objects import Broken, Object
from support import objects
from support.fake_clock import FakeClock


def node(name: str, ready: str) -> Object | Broken:
    condition = {"type": "Ready", "status": ready}
    return objects.made(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }
    )


def modified(*things: Object | Broken) -> Batch:
    return Batch(tuple(Event(EventType.MODIFIED, one) for one in things))


def says(batch: Batch) -> list[tuple[str, str]]:
    return [(one.object.metadata.name, _ready(one.object)) for one in batch.events]


def _ready(thing: Any) -> str:
    return str(thing.status.conditions[0].status) if thing.ref.kind == "Node" else ""


class Scene:
    """Two nodes that are Ready, and what is handed on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.told: list[list[tuple[str, str]]] = []
        self.synced: list[bool] = []
        self.nodes = MissedNodes(self._take, self.clock)
        self.take: Callable[[Batch], Awaitable[None]] = self.nodes.take

    async def _take(self, batch: Batch) -> None:
        self.told.append(says(batch))
        self.synced.append(batch.synced)

    async def pass_(self, seconds: float) -> None:
        """Let time pass, and who waited for it do its work."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    found = Scene()
    task = asyncio.create_task(found.nodes.run())
    await found.take(Batch(tuple(objects.added([node("a", "True"), node("b", "True")]))))
    found.told.clear()
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_nodes_that_are_missed_one_after_the_other_are_told_at_once() -> None:
    async with scene() as made:
        await made.take(modified(node("a", "Unknown")))
        await made.pass_(MOMENT / 2)
        await made.take(modified(node("b", "Unknown")))
        assert made.told == []
        await made.pass_(MOMENT / 2)
        assert made.told == [[("a", "Unknown"), ("b", "Unknown")]]


async def test_all_else_goes_on_meanwhile() -> None:
    async with scene() as made:
        await made.take(modified(node("a", "Unknown"), objects.service("web", "10.96.0.1")))
        assert made.told == [[("web", "")]]
        await made.pass_(MOMENT)
        assert made.told[1:] == [[("a", "Unknown")]]


@pytest.mark.parametrize("ready", ["True", "False"])
async def test_a_node_that_is_heard_of_again_was_never_missed(ready: str) -> None:
    async with scene() as made:
        await made.take(modified(node("a", "Unknown")))
        await made.take(modified(node("a", ready)))
        await made.pass_(MOMENT)
        assert made.told == [[("a", ready)]]


async def test_a_node_that_says_itself_that_it_is_not_ready_waits_for_nobody() -> None:
    async with scene() as made:
        await made.take(modified(node("a", "False")))
        await made.take(modified(node("a", "Unknown")))
        assert made.told == [[("a", "False")], [("a", "Unknown")]]


async def test_a_node_that_is_gone_is_told_at_once_and_once() -> None:
    async with scene() as made:
        await made.take(modified(node("a", "Unknown")))
        await made.take(Batch((Event(EventType.DELETED, node("a", "Unknown")),)))
        await made.pass_(MOMENT)
        assert made.told == [[("a", "Unknown")]]
        await made.take(Batch((Event(EventType.ADDED, node("a", "Unknown")),)))
        assert len(made.told) == 2


async def test_it_waits_again_the_next_time() -> None:
    async with scene() as made:
        for ready in ("Unknown", "True", "Unknown"):
            await made.take(modified(node("a", ready)))
            await made.pass_(MOMENT)
        assert made.told == [[("a", "Unknown")], [("a", "True")], [("a", "Unknown")]]


async def test_a_batch_without_events_is_handed_on_as_it_is() -> None:
    async with scene() as made:
        await made.take(Batch((), synced=False))
        assert (made.told, made.synced[-1]) == ([[]], False)
