"""One weight, one route, one endpoint is changed among 100, 1,000 and 10,000 routes."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import arrivals, live, scale
from bench.encode import NODE, Encoder, Encoding, total_bytes
from bench.live import Latency, Rig, Sync
from bench.report import Report, Samples, Table, number, samples
from bench.scale import Change
from penstock.compiler.compile import Compiler
from support import objects

SIZES = (100, 1_000, 10_000)
ENCODE_TURNS, LIVE_TURNS, BLOCKS = 100, 20, 2
RUNTIME_ALL, INLINE = 500, 600
"""Weighted routes just below the limit of the runtime, and above it."""

ABOUT = """\
Each Service has a pod, an endpoint and an HTTPRoute. A *weight* moves all of a Service's requests
to its neighbour (RTDS keys while at most 512 rules are weighted, inline in the route with more), a
*route* gets another response header, an *endpoint* gets another address; forth and back.

* **Encoding**: CPU of the controller's thread from the decoded event to the bytes of the response:
  compile and `DeltaStream`. No socket.
* **Comes and goes**: a route on a Gateway that has others, with the answers of a client that takes
  everything, and with what the status of the Gateway is made of.
* **Live**: compiler and ADS server in one process, a unix socket, stock Envoy with
  `--concurrency 1`; a prober in a process of its own asks on one keep-alive connection with 0.1 ms
  pauses. Envoy has the product's clusters, upstream rules and scopes, and in place of the pods'
  listeners one on a unix socket whose scope comes from a header. No agent in between.
* **Floor**: the same Envoy, the same process, then a gRPC server that writes bytes serialised
  before. Server and floor take turns.
* **Through the agent**: the whole way, with an agent in a process of its own between the server
  and its own Envoy; acknowledged means that the agent's report of Envoy's ACK is back.
"""


class Size(msgspec.Struct, kw_only=True):
    """Everything about one size of cluster."""

    routes: int
    decode: float = 0.0
    """CPU seconds from dicts to objects."""
    compile: float = 0.0
    """CPU seconds from objects to resources."""
    resources: int = 0
    size: int = 0
    encoded: dict[str, Encoding] = {}
    sync: Sync | None = None
    back: float = 0.0
    """Seconds until all is settled with an Envoy that comes back."""
    product: dict[str, list[Latency]] = {}
    floor: dict[str, list[Latency]] = {}
    through_agent: dict[str, list[Latency]] = {}
    """Its `envoy_cpu` is the agent's."""
    agent_sync: float = 0.0
    """Seconds until the Envoy of an agent that had nothing has acknowledged everything."""
    asked: int = 0
    failed: int = 0


def run() -> Report:
    """Measure every size; about two minutes."""
    found = [_measure(routes) for routes in SIZES]
    came = {routes: arrivals.measure(routes) for routes in SIZES}
    return Report(
        topic="change",
        title="A change among many routes",
        about=ABOUT,
        tables=[
            _encoding(found),
            _flatness(found),
            arrivals.table(came),
            _latencies(found),
            _whole(found),
            _initial(found),
        ],
        raw={
            **{str(size.routes): _raw(size) for size in found},
            "arrivals": {str(routes): msgspec.to_builtins(one) for routes, one in came.items()},
        },
    )


def _measure(routes: int) -> Size:
    size = Size(routes=routes)
    port = live.free_port()
    start = time.thread_time()
    events = objects.added(scale.cluster(routes, port))
    decoded = time.thread_time()
    compiler = Compiler()
    compiler.apply(events)
    size.decode, size.compile = decoded - start, time.thread_time() - decoded
    assert not compiler.failures, compiler.failures
    resources = compiler.resources(NODE)
    size.resources, size.size = len(resources), total_bytes(resources)
    _encode(size, compiler, port)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        asyncio.run(_live(size, compiler, port, Path(folder)))
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        asyncio.run(_through_agent(size, compiler, port, Path(folder)))
    del compiler, resources, events
    gc.collect()
    return size


def _encode(size: Size, compiler: Compiler, port: int) -> None:
    encoder = Encoder(compiler)
    for change in scale.changes(port):
        size.encoded[change.name] = encoder.measure(change, ENCODE_TURNS)
    if size.routes > INLINE:
        full = scale.more_canaries(scale.CANARIES + 1, RUNTIME_ALL)
        encoder.follow(compiler.apply(full))
        weight = scale.changes(port)[0]
        size.encoded["weight, 500 weighted"] = encoder.measure(weight, ENCODE_TURNS)
        encoder.follow(compiler.apply(scale.more_canaries(RUNTIME_ALL + 1, INLINE)))
        inline = scale.inline_weight()
        size.encoded[inline.name] = encoder.measure(inline, ENCODE_TURNS)
        encoder.follow(compiler.apply(scale.fewer_canaries(INLINE)))


async def _live(size: Size, compiler: Compiler, port: int, folder: Path) -> None:
    async with live.rig(folder, compiler, port) as rig:
        async with rig.product():
            size.sync = await rig.synced()
            await _warm(rig, scale.changes(port))
        for _ in range(BLOCKS):
            await _block(size, rig, scale.changes(port))
        if size.routes > INLINE:
            async with rig.product():
                rig.feed.follow(compiler.apply(scale.more_canaries(scale.CANARIES + 1, INLINE)))
            for _ in range(BLOCKS):
                await _block(size, rig, [scale.inline_weight()])
            rig.feed.follow(compiler.apply(scale.fewer_canaries(INLINE)))
        assert not rig.acks.rejections, rig.acks.rejections[:3]
    await _end()


async def _through_agent(size: Size, compiler: Compiler, port: int, folder: Path) -> None:
    async with live.whole(folder, compiler, port) as rig:
        size.agent_sync = (await rig.synced()).seconds
        await _warm(rig, scale.changes(port))
        async with live.prober_of(rig) as prober:
            for _ in range(BLOCKS):
                for change in scale.changes(port):
                    found = await rig.measure(prober, change, LIVE_TURNS)
                    size.through_agent.setdefault(change.name, []).append(found)
            size.asked, size.failed = size.asked + prober.asked, size.failed + prober.failed
    await _end()


async def _end() -> None:
    """Wait for streams of stopped servers; cut off by the end of the loop they are noisy."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=1.0)


async def _warm(rig: Rig, changes: Sequence[Change]) -> None:
    async with live.prober_of(rig) as prober:
        for change in changes:
            await rig.measure(prober, change, 4)


async def _block(size: Size, rig: Rig, changes: Sequence[Change]) -> None:
    """Measure each change with the product, then with the floor."""
    start = time.monotonic()
    async with rig.product():
        await rig.settled()
        size.back = size.back or time.monotonic() - start
        async with live.prober_of(rig) as prober:
            for change in changes:
                found = await rig.measure(prober, change, LIVE_TURNS)
                size.product.setdefault(change.name, []).append(found)
            size.asked, size.failed = size.asked + prober.asked, size.failed + prober.failed
    async with live.floor(rig) as floor, live.prober_of(rig) as prober:
        for change in changes:
            found = await rig.measure_floor(prober, floor, change, LIVE_TURNS)
            size.floor.setdefault(change.name, []).append(found)


def _together(blocks: Sequence[Latency], name: str) -> Samples:
    return samples(v for block in blocks for v in getattr(block, name).values)


def _encoding(found: Sequence[Size]) -> Table:
    rows = [
        [
            name, str(size.routes), str(cost.compile), str(cost.frame), str(cost.both),
            str(cost.size),
        ]
        for name in found[-1].encoded
        for size in found
        if (cost := size.encoded.get(name)) is not None
    ]  # fmt: skip
    return Table(
        title="Encoding: event to bytes, CPU ms",
        header=["change", "routes", "compile", "frame", "both", "bytes"],
        rows=rows,
        notes=[f"{scale.CANARIES} routes are weighted unless the row says otherwise."],
    )


def _flatness(found: Sequence[Size]) -> Table:
    rows: list[list[str]] = []
    for name in found[-1].encoded:
        sizes = [size for size in found if name in size.encoded]
        small, large = sizes[0], sizes[-1]
        ratio = large.encoded[name].both.over(small.encoded[name].both)
        worst = number(max(large.encoded[name].both.values))
        rows.append([name, f"{large.routes} : {small.routes}", ratio, worst])
    return Table(
        title="Encoding: growth",
        header=["change", "routes", "ratio", "slowest of all, ms"],
        rows=rows,
        notes=["Aims: at most 2 ms; at most 1.3 from 100 to 10,000."],
    )


def _latencies(found: Sequence[Size]) -> Table:
    rows: list[list[str]] = []
    for name in found[-1].product:
        for size in found:
            if name not in size.product:
                continue
            product, floor = size.product[name], size.floor[name]
            acked, served = _together(product, "acked"), _together(product, "served")
            least_acked, least_served = _together(floor, "acked"), _together(floor, "served")
            rows.append([
                name, str(size.routes), str(acked), str(served),
                str(least_acked), str(least_served), served.over(least_served),
                str(_together(product, "envoy_cpu")),
            ])  # fmt: skip
    asked, failed = sum(s.asked for s in found), sum(s.failed for s in found)
    return Table(
        title="Live: event to ACK and to the first request served the new way, ms",
        header=[
            "change", "routes", "ACK", "served", "floor: ACK", "floor: served",
            "served : floor", "CPU of Envoy's main thread",
        ],
        rows=rows,
        notes=[
            "Aim: served at most 3 times the floor.",
            f"The prober asked {asked} times, here and through the agent; {failed} failed.",
        ],
    )  # fmt: skip


def _whole(found: Sequence[Size]) -> Table:
    rows: list[list[str]] = []
    for name in found[-1].through_agent:
        for size in found:
            blocks = size.through_agent[name]
            served = _together(blocks, "served")
            rows.append([
                name, str(size.routes), str(_together(blocks, "acked")), str(served),
                served.over(_together(size.floor[name], "served")),
                str(_together(blocks, "envoy_cpu")),
            ])  # fmt: skip
    return Table(
        title="Through the agent, ms",
        header=[
            "change", "routes", "ACK reported", "served", "served : floor", "CPU of the agent",
        ],
        rows=rows,
        notes=["The floor is the one above: without an agent."],
    )  # fmt: skip


def _initial(found: Sequence[Size]) -> Table:
    rows = [
        [
            str(size.routes), number(size.decode), number(size.compile),
            f"{size.resources} / {number(size.size / 1e6)} MB",
            f"{size.sync.resources} / {number(size.sync.size / 1e6)} MB",
            number(size.sync.seconds), number(size.agent_sync), number(size.sync.envoy_cpu),
            str(size.sync.envoy_memory), number(size.back),
        ]
        for size in found
        if size.sync is not None
    ]  # fmt: skip
    return Table(
        title="First synchronisation, seconds",
        header=[
            "routes", "decode objects", "compile", "snapshot of a node", "sent to this Envoy",
            "all acknowledged", "through the agent", "CPU of Envoy", "Envoy MiB",
            "settled after a reconnect",
        ],
        rows=rows,
        notes=[
            "Once each. Decoding starts from dicts, not from YAML.",
            "The snapshot of a node has two listeners for each of its pods, and all pods are its.",
        ],
    )  # fmt: skip


def _raw(size: Size) -> dict[str, Any]:
    """Return all samples of a size."""
    raw: dict[str, Any] = {
        name: getattr(size, name)
        for name in (
            "decode",
            "compile",
            "resources",
            "size",
            "back",
            "agent_sync",
            "asked",
            "failed",
        )
    }
    raw["sync"] = msgspec.to_builtins(size.sync)
    raw["encoding"] = {
        name: {"compile": cost.compile, "frame": cost.frame, "bytes": cost.size}
        for name, cost in size.encoded.items()
    }
    sides = {"product": size.product, "floor": size.floor, "through_agent": size.through_agent}
    for side, blocks in sides.items():
        raw[side] = {
            name: {what: _together(each, what) for what in ("acked", "served", "envoy_cpu")}
            for name, each in blocks.items()
        }
    return raw
