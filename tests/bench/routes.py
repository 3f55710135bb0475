"""Routes that come one by one, that change under load, and that come all at once."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from bench import route_objects
from bench.kube_load import StatusWatch, Writer, on_real_api
from bench.kube_stack import PATIENCE, Prober, listening, penstock, prober_of, serving
from bench.processes import free_port, own_address
from bench.report import Report, Table, number, samples
from support.kube import KubeApi

AT_ONCE = 1_000
ALONE = 200
"""Routes for the floor."""
FLIPS, CONNECTIONS = 20, 4
REST = 0.25
"""Seconds between flips under load."""
_MS = 1e3


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Routes to create one by one."""

    prefix: str
    """Of their names."""
    place: Callable[[int], tuple[str, str]]
    """Returns hostname and path of one."""
    count: int
    from_before: bool = False
    """Whether a route is asked for before it is created, too."""


OWN = Series(prefix="own", place=route_objects.own_host, count=3_000)
WATCHED = Series(prefix="watched", place=route_objects.watched_host, count=1_000, from_before=True)
SHARED = Series(prefix="shared", place=route_objects.shared_host, count=1_000)

ABOUT = f"""\
A real etcd and kube-apiserver, `penstock controller`, `penstock agent` and a stock Envoy, all on
this machine and without eBPF; the Gateway is on loopback. Every route has two header filters, and a
second rule to a backend that does not exist.

* **One by one**: a route is created; when the API server has answered, a prober asks for it until
  it is answered 200; then the next. *Committed to served* counts from that answer, as
  gateway-api-bench does, whose figures others publish; *sent to served* from when the POST is sent.
  {OWN.count:,} have a hostname each. Then {WATCHED.count:,} more are asked for all the time from
  before they are created, which also shows what is answered in between and takes CPU from all
  others, and {SHARED.count:,} are on paths of one hostname. Failed are answers that are neither 200
  nor 404. The floor is what the API server takes for {ALONE} such routes while nothing else runs.
* **Under load**: {CONNECTIONS} connections ask without pause while the backend of their route is
  changed {FLIPS} times.
* **At once**: {AT_ONCE:,} routes over many connections; until `attachedRoutes` of the Gateway is
  right, and how often its status was written, by a watch. Then all of them are deleted.
"""


class Arrivals(msgspec.Struct, kw_only=True):
    """Routes that were created one by one."""

    sent: list[float] = []
    """Milliseconds from the POST to the first 200."""
    committed: list[float] = []
    """The same from the answer to the POST."""
    asked: int = 0
    failed: int = 0


class Attached(msgspec.Struct, kw_only=True):
    """Routes that came or went all at once."""

    written: float
    """Seconds until the API server had the last one."""
    right: float
    """Seconds until the number in the status was right."""
    writes: int
    """How often the status of the Gateway was written."""


class Found(msgspec.Struct, kw_only=True):
    """All measurements."""

    alone: list[float]
    """Milliseconds that the API server takes for a route while nothing else runs."""
    own: Arrivals
    watched: Arrivals
    """With a hostname each, and asked for from before they are created."""
    shared: Arrivals
    statuses: dict[str, int]
    """Answers under load by status."""
    came: Attached
    went: Attached


def run() -> Report | str:
    """Measure; about three minutes."""
    found = on_real_api(_measure)
    return found if isinstance(found, str) else _report(found)


async def _measure(api: KubeApi, folder: Path) -> Found:
    address, port = own_address(), free_port("127.0.0.1")
    ports = (free_port(address), free_port(address))
    async with Writer(api) as writer:
        await writer.create(route_objects.common(address, ports, port))
        alone = await _alone(writer)
        with serving(folder, address, ports), penstock(api, folder / "run"):
            await listening(port)
            async with prober_of("route_prober.py", "127.0.0.1", str(port)) as prober:
                return await _all(writer, prober, alone)


async def _alone(writer: Writer) -> list[float]:
    """Return what the API server takes for routes when nobody waits for them."""
    found: list[float] = []
    made = [
        route_objects.route(f"alone-{index}", route_objects.own_host(index))
        for index in range(ALONE)
    ]
    for one in made:
        start = time.monotonic()
        await writer.create([one])
        found.append((time.monotonic() - start) * _MS)
    await writer.delete(made)
    return found


async def _all(writer: Writer, prober: Prober, alone: list[float]) -> Found:
    own = await _one_by_one(writer, prober, OWN)
    statuses = await _under_load(writer, prober)
    await _remove(writer, OWN)
    watched = await _one_by_one(writer, prober, WATCHED)
    await _remove(writer, WATCHED)
    shared = await _one_by_one(writer, prober, SHARED)
    await _remove(writer, SHARED)
    names = [f"many-{index}" for index in range(AT_ONCE)]
    objects = [
        route_objects.route(name, route_objects.own_host(index)) for index, name in enumerate(names)
    ]
    came = await _attached(writer, AT_ONCE, functools.partial(writer.create, objects))
    went = await _attached(writer, 0, functools.partial(writer.delete, objects))
    return Found(
        alone=alone,
        own=own,
        watched=watched,
        shared=shared,
        statuses=statuses,
        came=came,
        went=went,
    )


async def _one_by_one(writer: Writer, prober: Prober, series: Series) -> Arrivals:
    found = Arrivals()
    for index in range(series.count):
        host, path = series.place(index)
        asked = f"until {host} {path}"
        if series.from_before:
            await prober.ask(asked)
        start = time.monotonic()
        await writer.create([route_objects.route(f"{series.prefix}-{index}", (host, path))])
        committed = time.monotonic()
        if not series.from_before:
            await prober.ask(asked)
        async with asyncio.timeout(PATIENCE):
            seen = await prober.answer()
        served = seen["time_ns"] / 1e9
        found.sent.append((served - start) * _MS)
        found.committed.append((served - committed) * _MS)
        found.asked += seen["asked"]
        found.failed += seen["failed"]
    return found


async def _under_load(writer: Writer, prober: Prober) -> dict[str, int]:
    place = route_objects.own_host(0)
    await prober.ask(f"load {place[0]} {place[1]} {CONNECTIONS}")
    for turn in range(FLIPS):
        service = route_objects.SERVICES[(turn + 1) % 2]
        await writer.replace(route_objects.route("own-0", place, service))
        await asyncio.sleep(REST)
    await prober.tell("end")
    return msgspec.convert(await prober.answer(), dict[str, int])


async def _remove(writer: Writer, series: Series) -> None:
    names = (f"{series.prefix}-{index}" for index in range(series.count))
    await writer.delete(route_objects.route(name, ("", "/")) for name in names)
    async with StatusWatch(writer, route_objects.gateway_path()) as watch:
        await watch.until(lambda status: _attached_routes(status) == 0, PATIENCE)


async def _attached(
    writer: Writer, expected: int, act: Callable[[], Coroutine[Any, Any, int]]
) -> Attached:
    async with StatusWatch(writer, route_objects.gateway_path()) as watch:
        await watch.until(lambda _: True, PATIENCE)
        before = watch.seen
        start = time.monotonic()
        await act()
        written = time.monotonic() - start
        await watch.until(lambda status: _attached_routes(status) == expected, PATIENCE)
        right = time.monotonic() - start
        await watch.quiet(2.0)
        return Attached(written=written, right=right, writes=watch.seen - before)


def _attached_routes(status: dict[str, Any]) -> int:
    return sum(one.get("attachedRoutes", 0) for one in status.get("listeners", []))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _report(found: Found) -> Report:
    return Report(
        topic="routes",
        title="Routes that come and change",
        about=ABOUT,
        tables=[_arrivals(found), _answers(found), _attachments(found)],
        raw=msgspec.to_builtins(found),
    )


def _arrivals(found: Found) -> Table:
    rows = {
        "with a hostname each": found.own,
        "the same, asked for from before": found.watched,
        "on paths of one hostname": found.shared,
    }
    return Table(
        title="One by one, ms",
        header=[
            *("routes", "committed to served", "mean", "most", "mean of the first and last 100"),
            *("sent to served", "mean", "failed"),
        ],
        rows=[
            [
                f"{len(one.sent):,} {name}",
                str(samples(one.committed)),
                number(_mean(one.committed)),
                number(max(one.committed)),
                f"{number(_mean(one.committed[:100]))} / {number(_mean(one.committed[-100:]))}",
                str(samples(one.sent)),
                number(_mean(one.sent)),
                f"{one.failed} of {one.asked:,}",
            ]
            for name, one in rows.items()
        ],
        notes=[
            "Aim: at most 8 ms in the mean from committed to served, flat, and none failed.",
            _floor(found.alone),
        ],
    )


def _floor(alone: list[float]) -> str:
    return (
        f"Floor: the API server alone takes {samples(alone)}, {number(_mean(alone))} in the mean."
    )


def _answers(found: Found) -> Table:
    return Table(
        title="Under load",
        header=["status", "answers"],
        rows=[[status, f"{count:,}"] for status, count in sorted(found.statuses.items())],
        notes=["Aim: 200 only."],
    )


def _attachments(found: Found) -> Table:
    return Table(
        title="At once",
        header=["what", "last one written, s", "attachedRoutes right, s", "writes of the status"],
        rows=[
            [what, number(one.written), number(one.right), str(one.writes)]
            for what, one in {"came": found.came, "deleted": found.went}.items()
        ],
        notes=["Aim: the status of the Gateway is written 10 times at most."],
    )
