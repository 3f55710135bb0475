"""The pace and the manners of the writer of generated objects, with a server that is a function."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any

from penstock.gatewayapi.generated import GENERATED_FOR, Generated
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.connection import Answer, Call, UnreachableError
from penstock.sources.kubernetes.object_writer import Objects, ObjectWriter
from support.fake_clock import FakeClock

ONE = ObjectRef("Service", "shop", "one")
TWO = ObjectRef("Service", "shop", "two")


def wanted(ref: ObjectRef) -> Generated:
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": {GENERATED_FOR: ref.name}}
    spec = {"ports": [{"port": 80, "protocol": "TCP"}]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    return Generated(ref=ref, body=body)


class Server:
    """Keeps objects by their paths; `refuses` may answer a request instead."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.refuses: Callable[[Call], int] = lambda _: 0
        self.leads = True

    async def send(self, call: Call) -> Answer:
        path = call.target.partition("?")[0]
        self.calls.append(f"{call.method} {path.rpartition('/')[2]}")
        status = self.refuses(call)
        if status < 0:
            raise UnreachableError("nobody there")
        if status:
            return Answer(status=status, body={})
        if call.method == "GET":
            found = self.objects.get(path)
            return Answer(status=200 if found else 404, body=found or {})
        assert isinstance(call.body, dict)
        before = self.objects.get(path)
        metadata = {"uid": "u", **call.body["metadata"], "resourceVersion": str(len(self.calls))}
        self.objects[path] = {**call.body, "metadata": metadata}
        return Answer(status=200 if before else 201, body=self.objects[path])


@contextlib.asynccontextmanager
async def writing(
    server: Server,
    clock: FakeClock,
    refused: Callable[[ObjectRef, str], None] = lambda _ref, _why: None,
) -> AsyncGenerator[ObjectWriter]:
    objects = Objects(concerns=lambda _: True, wanted=wanted, refused=refused)
    writer = ObjectWriter(clock, lambda: 0.5, objects)
    task = asyncio.create_task(writer.run(server.send, lambda: server.leads))
    try:
        yield writer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(clock: FakeClock, condition: Callable[[], object], step: float = 0.1) -> None:
    """Let time pass until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            for _ in range(10):
                await asyncio.sleep(0)
            clock.advance(step)


async def test_an_object_is_read_then_made_and_not_written_again() -> None:
    server, clock = Server(), FakeClock()
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        await until(clock, lambda: writer.writes == 1)
        assert server.calls == ["GET one", "PATCH one"]
        writer.mark(ONE)
        await until(clock, lambda: not writer.waiting)
        assert server.calls[2:] == ["GET one"]
        assert writer.writes == 1


async def test_what_the_server_does_not_take_is_told_until_it_does() -> None:
    server, clock, told = Server(), FakeClock(), list[tuple[ObjectRef, str]]()
    server.refuses = lambda call: 422 if call.method == "PATCH" else 0
    async with writing(server, clock, lambda ref, why: told.append((ref, why))) as writer:
        writer.mark(ONE)
        await until(clock, lambda: server.calls.count("PATCH one") > 1)
        server.refuses = lambda _: 500
        await until(clock, lambda: len(server.calls) > 6)
        server.refuses = lambda _: 0
        await until(clock, lambda: writer.writes)
    found = [why for ref, why in told if ref == ONE]
    assert found == [*["422"] * (len(found) - 1), ""]


async def test_who_does_not_lead_asks_nothing() -> None:
    server, clock = Server(), FakeClock()
    server.leads = False
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        began = clock.monotonic()
        await until(clock, lambda: clock.monotonic() > began + 5)
        assert server.calls == []
        server.leads = True
        await until(clock, lambda: writer.writes == 1)


async def test_who_leads_no_longer_after_reading_does_not_write() -> None:
    server, clock = Server(), FakeClock()

    def loses(call: Call) -> int:
        server.leads = server.leads and call.method != "GET"
        return 0

    server.refuses = loses
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        await until(clock, lambda: server.calls)
        began = clock.monotonic()
        await until(clock, lambda: clock.monotonic() > began + 5)
        assert server.calls == ["GET one"]


async def test_an_object_that_is_refused_holds_up_no_other() -> None:
    server, clock = Server(), FakeClock()
    server.refuses = lambda call: 422 if call.method == "PATCH" and "one" in call.target else 0
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        writer.mark(TWO)
        await until(clock, lambda: writer.writes == 1)
        assert list(server.objects) == ["/api/v1/namespaces/shop/services/two"]
        server.refuses = lambda _: 0
        await until(clock, lambda: writer.writes == 2)


async def test_after_an_outage_everything_is_made_up_for() -> None:
    server, clock = Server(), FakeClock()
    server.refuses = lambda _: -1
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        writer.mark(TWO)
        await until(clock, lambda: len(server.calls) > 3)
        server.refuses = lambda call: 503 if call.method == "PATCH" else 0
        await until(clock, lambda: "PATCH one" in server.calls)
        server.refuses = lambda _: 0
        await until(clock, lambda: writer.writes == 2)


async def test_an_object_that_came_meanwhile_gets_back_what_we_said_of_it() -> None:
    server, clock = Server(), FakeClock()
    path = "/api/v1/namespaces/shop/services/one"

    def somebody(call: Call) -> int:
        if call.method == "PATCH" and path not in server.objects:
            server.objects[path] = {"metadata": {"uid": "theirs"}}
        return 0

    server.refuses = somebody
    async with writing(server, clock) as writer:
        writer.mark(ONE)
        await until(clock, lambda: writer.writes == 1)
        assert server.calls == ["GET one", "PATCH one", "PATCH one"]
        assert "labels" not in server.objects[path]["metadata"]


def _is_past(clock: FakeClock, then: float) -> bool:
    return clock.monotonic() >= then


async def test_objects_that_the_server_cannot_make_hold_up_no_other_and_are_told() -> None:
    server, clock = Server(), FakeClock()
    bad = [ObjectRef("Service", "team", f"bad-{index}") for index in range(8)]
    server.refuses = lambda call: 500 if call.method == "PATCH" and "bad" in call.target else 0
    why: dict[ObjectRef, str] = {}
    async with writing(server, clock, why.__setitem__) as writer:
        for one in bad:
            writer.mark(one)
        for _ in range(30):
            then = clock.monotonic() + 2.0
            await until(clock, functools.partial(_is_past, clock, then))
            writer.answered()
        assert all(why[one] == "500" for one in bad)
        began = clock.monotonic()
        writer.mark(ONE)
        await until(clock, lambda: why.get(ONE) == "")
        assert clock.monotonic() - began < 1.0


async def test_an_object_that_should_be_another_one_does_not_wait_for_what_was_refused() -> None:
    server, clock = Server(), FakeClock()
    server.refuses = lambda call: 422 if call.method == "PATCH" else 0
    port = 80

    def changing(ref: ObjectRef) -> Generated:
        made = wanted(ref)
        made.body["spec"]["ports"][0]["port"] = port
        return made

    writer = ObjectWriter(clock, lambda: 0.5, Objects(concerns=lambda _: True, wanted=changing))
    task = asyncio.create_task(writer.run(server.send, lambda: True))
    try:
        writer.mark(ONE)
        await until(clock, lambda: clock.monotonic() > 600.0, step=1.0)
        server.refuses = lambda _: 0
        port = 81
        began = clock.monotonic()
        writer.mark(ONE)
        await until(clock, lambda: server.objects)
        assert clock.monotonic() - began < 1.5
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
