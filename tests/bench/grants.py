"""ReferenceGrants that are taken back and given: until the node refuses, serves and forgets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import override

from bench import grant_objects, route_objects
from bench.kube_load import Watching, Writer, on_real_api
from bench.kube_stack import PATIENCE, Prober, listening, penstock, prober_of, serving
from bench.processes import free_port, own_address
from bench.report import Report, Table, number, samples
from penstock.meta.paths import RunPaths
from support.kube import KubeApi

COUNT = 25
"""Grants of Secrets, and how often that of a backend is taken back."""
ROUTES = (0, 1_000)
"""Others on the same Gateway."""
_MS = 1e3

ABOUT = f"""\
A real etcd and kube-apiserver, `penstock controller`, `penstock agent` and a stock Envoy, all on
this machine and without eBPF; the Gateway is on loopback. Another namespace lends it {COUNT}
Secrets, each for an HTTPS listener of its own and by a ReferenceGrant of its own, and lends a
backend to one of its routes.

* A grant is deleted, or created again, while a prober asks all the time: with a new handshake each
  time, or with requests on one connection. *Answered to* counts from when the API server has
  answered, *sent to* from when it is asked. The time is that of the first handshake that is
  refused (taken), the first 500 (200).
* The Secret has left Envoy when `/config_dump` does not have its certificate any more. It is looked
  for every 20 ms, which takes CPU from all others.
* The floor is a plain watch on grants: when it has the event. That may be before the answer.
* All of it twice: with {ROUTES[0]} and with {ROUTES[1]:,} other routes on the Gateway.
"""


class Delays(msgspec.Struct, kw_only=True):
    """From writes to what comes of them, in milliseconds."""

    answered: list[float] = []
    """From the answer of the API server."""
    sent: list[float] = []
    """From when it was asked."""
    event: list[float] = []
    """From the answer to the event at a plain watch, which may come before it."""

    def add(self, written: Written, at: float) -> None:
        self.answered.append((at - written.answered) * _MS)
        self.sent.append((at - written.sent) * _MS)
        self.event.append((written.event - written.answered) * _MS)


class Written(msgspec.Struct, frozen=True):
    """When something was written, in monotonic seconds."""

    sent: float
    answered: float
    event: float
    """When a plain watch had it."""


class Size(msgspec.Struct, kw_only=True):
    """All that was measured with one number of other routes."""

    routes: int
    refused: Delays = msgspec.field(default_factory=Delays)
    gone: Delays = msgspec.field(default_factory=Delays)
    """To Envoy without the Secret."""
    failing: Delays = msgspec.field(default_factory=Delays)
    """To the first 500."""
    taken: Delays = msgspec.field(default_factory=Delays)
    back: Delays = msgspec.field(default_factory=Delays)
    """To the first 200."""


class Events(Watching):
    """A plain watch on the grants; use as a context."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer, grant_objects.grants_path())
        self._seen: dict[str, float] = {}
        """Name → when the newest event came."""

    @override
    def _take(self, found: dict[str, Any]) -> None:
        self._seen[found["metadata"]["name"]] = time.monotonic()

    async def of(self, name: str, since: float) -> float:
        """Return when the event of a grant came that was sent *since*."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: self._seen.get(name, 0.0) > since)
            return self._seen[name]


class Stage(msgspec.Struct, frozen=True):
    """What all measurements use."""

    writer: Writer
    events: Events
    asking: Prober
    looking: Prober


def run() -> Report | str:
    """Measure; about two minutes."""
    found = on_real_api(_measure)
    return found if isinstance(found, str) else _report(found)


async def _measure(api: KubeApi, folder: Path) -> list[Size]:
    address = own_address()
    backends = (free_port(address), free_port(address))
    http, https = free_port("127.0.0.1"), free_port("127.0.0.1")
    async with Writer(api) as writer:
        await _create(writer, address, backends, (http, https))
        run_folder = folder / "run"
        with serving(folder, address, backends), penstock(api, run_folder):
            for port in (http, https):
                await listening(port)
            admin = RunPaths(run_folder).envoy_admin
            words = ("127.0.0.1", str(http), str(https), str(admin))
            async with _stage(writer, words) as stage:
                return [await _size(stage, routes) for routes in ROUTES]


async def _create(
    writer: Writer, address: str, backends: tuple[int, int], ports: tuple[int, int]
) -> None:
    http, https = ports
    more = grant_objects.listeners(https, COUNT)
    await writer.create([route_objects.namespace(grant_objects.OTHER)])
    for one in route_objects.common(address, backends, http, more):
        await writer.create([one])
    await writer.create(grant_objects.secrets(COUNT))
    await writer.create(grant_objects.abroad(address, backends[1]))


@contextlib.asynccontextmanager
async def _stage(writer: Writer, words: Iterable[str]) -> AsyncGenerator[Stage]:
    program = "grant_prober.py"
    async with (
        Events(writer) as events,
        prober_of(program, *words) as asking,
        prober_of(program, *words) as looking,
    ):
        yield Stage(writer, events, asking, looking)


async def _size(stage: Stage, routes: int) -> Size:
    size = Size(routes=routes)
    await _add_routes(stage, routes)
    for index in range(COUNT):
        name = grant_objects.server_name(index)
        given = grant_objects.grant_of_secret(index)
        await _turn(stage, size.taken, f"handshake taken {name}", _create_one(stage, given))
    await _secrets(stage, size)
    backend = grant_objects.grant_of_backend()
    for _ in range(COUNT):
        host = grant_objects.ABROAD
        await _turn(stage, size.back, f"status 200 {host}", _create_one(stage, backend))
        await _turn(stage, size.failing, f"status 500 {host}", _delete_one(stage, backend))
    return size


async def _add_routes(stage: Stage, routes: int) -> None:
    names = [f"other-{index}" for index in range(routes)]
    if not names:
        return
    await stage.asking.ask(f"status 200 {route_objects.own_host(routes - 1)[0]}")
    await stage.writer.create(
        route_objects.route(name, route_objects.own_host(index)) for index, name in enumerate(names)
    )
    await _answer(stage.asking)


async def _secrets(stage: Stage, size: Size) -> None:
    """Take back all grants of Secrets, one by one; return when Envoy has none of them."""
    written: dict[str, Written] = {}
    await stage.looking.ask("secrets")
    assert len((await _answer(stage.looking))["names"]) == COUNT + 1
    for index in range(COUNT):
        question = f"handshake refused {grant_objects.server_name(index)}"
        given = grant_objects.grant_of_secret(index)
        name = f"tls|{grant_objects.OTHER}/{grant_objects.secret_name(index)}"
        act = _delete_one(stage, given)
        written[name] = await _turn(stage, size.refused, question, act)
    while written:
        seen = await _answer(stage.looking)
        for name in written.keys() - set(seen["names"]):
            size.gone.add(written.pop(name), seen["time_ns"] / 1e9)
    await stage.looking.tell("end")


def _create_one(stage: Stage, grant: dict[str, Any]) -> Callable[[], Coroutine[Any, Any, str]]:
    async def act() -> str:
        await stage.writer.create([grant])
        return str(grant["metadata"]["name"])

    return act


def _delete_one(stage: Stage, grant: dict[str, Any]) -> Callable[[], Coroutine[Any, Any, str]]:
    async def act() -> str:
        await stage.writer.delete([grant])
        return str(grant["metadata"]["name"])

    return act


async def _turn(
    stage: Stage,
    delays: Delays,
    question: str,
    act: Callable[[], Coroutine[Any, Any, str]],
) -> Written:
    """Do *act*, which returns the name of a grant, while *question* is asked."""
    await stage.asking.ask(question)
    sent = time.monotonic()
    name = await act()
    answered = time.monotonic()
    written = Written(sent, answered, await stage.events.of(name, sent))
    delays.add(written, (await _answer(stage.asking))["time_ns"] / 1e9)
    return written


async def _answer(prober: Prober) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        found: dict[str, Any] = await prober.answer()
        return found


def _report(found: list[Size]) -> Report:
    return Report(
        topic="grants",
        title="Grants that are taken back",
        about=ABOUT,
        tables=[
            _table("Taken back, ms", found, _TAKEN_BACK),
            _table("Given, ms", found, _GIVEN),
        ],
        raw={f"{size.routes} routes": msgspec.to_builtins(size) for size in found},
    )


_TAKEN_BACK = (
    ("Secret: first handshake refused", "refused"),
    ("Secret: gone from Envoy", "gone"),
    ("backend: first 500", "failing"),
)
_GIVEN = (
    ("Secret: first handshake taken", "taken"),
    ("backend: first 200", "back"),
)


def _table(title: str, found: list[Size], rows: Iterable[tuple[str, str]]) -> Table:
    return Table(
        title=title,
        header=[
            *("what", "other routes", "times", "answered to", "most"),
            *("floor: answered to event", "most", "sent to", "most"),
        ],
        rows=[
            [what, f"{size.routes:,}", *_cells(getattr(size, name))]
            for what, name in rows
            for size in found
        ],
        notes=["Aim: all within 2 s."] if rows is _TAKEN_BACK else [],
    )


def _cells(delays: Delays) -> list[str]:
    kinds = (delays.answered, delays.event, delays.sent)
    pairs = ((str(samples(kind)), number(max(kind))) for kind in kinds)
    return [str(len(delays.sent)), *(cell for pair in pairs for cell in pair)]
