"""A route comes to a Gateway and goes again, among 100, 1,000 and 10,000 others."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence

import msgspec

from bench.encode import Encoder
from bench.report import Samples, Table, number, samples
from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.names import ObjectRef
from support import objects

TURNS = 60
SHARERS = 5
"""Other routes of the hostname that is shared."""
_MS = 1e3
_GATEWAY = ObjectRef("Gateway", "shop", "edge")

NOTES = (
    "Each of the others has a hostname of its own. The status of the Gateway is followed.",
    "Aim: at most 1.3 from 100 to 10,000.",
)


class Arrivals(msgspec.Struct, frozen=True):
    """CPU milliseconds from the event to the bytes of the responses."""

    added: dict[str, Samples]
    removed: dict[str, Samples]


def cluster(count: int) -> Iterator[Object | Broken]:
    """Yield a Gateway with *count* routes, and more that share a hostname."""
    yield objects.gateway_class()
    yield objects.gateway("edge")
    yield objects.service("app", "10.96.0.1")
    yield objects.endpoint_slice("app", ["10.244.0.1"])
    for index in range(count):
        yield route(f"route-{index}", f"app-{index}.example.test")
    for index in range(SHARERS):
        yield route(f"sharer-{index}", "shared.example.test", f"/{index}")


def route(name: str, hostname: str, path: str = "/") -> Object | Broken:
    """Return a route of the Gateway."""
    parent = {"name": "edge"}
    return objects.http_route(
        name, parent=parent, backends=[("app", 1)], hostnames=[hostname], path=path
    )


def measure(count: int) -> Arrivals:
    """Return what a route more and a route less costs beside *count* others."""
    compiler = Compiler()
    compiler.apply(objects.added(cluster(count)))
    assert not compiler.failures, compiler.failures
    compiler.statuses.follow(_GATEWAY)
    encoder = Encoder(compiler)
    cases = {
        "a hostname of its own": route("new", "new.example.test"),
        "a path of a shared hostname": route("new", "shared.example.test", "/new"),
    }
    found = Arrivals({}, {})
    for name, one in cases.items():
        found.added[name], found.removed[name] = _forth_and_back(encoder, compiler, one)
    return found


def _forth_and_back(
    encoder: Encoder, compiler: Compiler, one: Object | Broken
) -> tuple[Samples, Samples]:
    times: dict[EventType, list[float]] = {EventType.ADDED: [], EventType.DELETED: []}
    gc.collect()
    for turn in range(-2, TURNS):
        for kind, values in times.items():
            start = time.thread_time()
            changes = compiler.apply([Event(kind, one)])
            encoder.follow(changes)
            spent = time.thread_time() - start
            assert changes
            if turn >= 0:
                values.append(spent * _MS)
    return samples(times[EventType.ADDED]), samples(times[EventType.DELETED])


def table(found: dict[int, Arrivals]) -> Table:
    """Return the costs by number of routes, and how they grow."""
    small, large = found[min(found)], found[max(found)]
    rows = [
        row
        for what in ("added", "removed")
        for name in large.added
        for row in _rows(what, name, found, (small, large))
    ]
    return Table(
        title="A route comes and goes: event to answered bytes, CPU ms",
        header=["what", "route with", *(f"{count:,} routes" for count in found), "growth", "most"],
        rows=rows,
        notes=list(NOTES),
    )


def _rows(
    what: str, name: str, found: dict[int, Arrivals], ends: Sequence[Arrivals]
) -> Iterator[list[str]]:
    small, large = (getattr(one, what)[name] for one in ends)
    values = [str(getattr(one, what)[name]) for one in found.values()]
    yield [what, name, *values, large.over(small), number(max(large.values))]
