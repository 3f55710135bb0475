"""What a captured HTTP request costs, and what a connection costs that the kernel balances."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench import node as nodes
from bench.node import HOPS, PORT, VIPS, Node, output_of
from bench.processes import thread_cpu
from bench.report import Report, Samples, Table, number, samples
from penstock.bpf.build import build
from penstock.bpf.capabilities import missing_capabilities
from penstock.bpf.errors import BuildError
from support.topology import NODE_IPV4

ROUNDS, SECONDS = 5, 1
CONNECTIONS = (1, 16)
CONNECTS = 3_000
CONNECTOR = Path(__file__).with_name("connector.py")
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)s")
_MEDIAN = re.compile(r"50%\s+([\d.]+)(us|ms|s)")
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}

ABOUT = """\
The parts of the product, by the agent: eBPF programs, one stock Envoy with one worker, resources
from the compiler; pods are network namespaces on one node. `wrk` asks with one thread and
keep-alive for 1 KiB; the application is a stock Envoy with a direct response. Client, Envoy and
application are bound to one core, so that wake-ups of other cores are not what is measured; the
agent, which takes the access log, has the rest. Rows take turns, one second each.

* **direct**: no eBPF program anywhere; **programs only**: all attached, the verdict is "allow".
* **plain hop(s)**: a second stock Envoy process, static, without access log and without programs.
* **two passes**: egress and ingress listener, both as in the product, but the cluster between
  them has no upstream rules and no mark, so the server's listener judges again.
* **fused**: the product: the egress pass enforces the server's ingress rules.
* CPU is that of all threads of the Envoy process in question (schedstat), by request. With one
  connection every process finds its caches cold, the more as the application is an Envoy, too;
  with 16 it is nearer to the work itself.
* connect: time of `connect()` by a Python process; its own share is in every row.
"""


class Way(msgspec.Struct, frozen=True):
    """One way from a client to an application."""

    name: str
    client: str
    host: str
    port: int
    envoy: str = ""
    """Whose CPU counts: "agent", "plain" or nobody's."""
    passes: int = 0
    """How often the agent's Envoy should see a request."""


class Load(msgspec.Struct, frozen=True):
    """One run of wrk."""

    requests: int
    p50: float
    """Microseconds."""
    rate: float
    """Requests in a second."""
    envoy: float
    """CPU microseconds by request."""
    agent: float
    """CPU microseconds of the agent's process by request."""
    passes: float
    """Requests that the agent's Envoy took, by request of the client."""


def run() -> Report | str:
    """Measure, about three minutes; or return why it cannot be done here."""
    try:
        build()
    except BuildError as error:
        return str(error)
    if missing := missing_capabilities():
        return "; ".join(missing)
    if shutil.which("wrk") is None:
        return "wrk is not installed: apt-get install wrk, as root"
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, _one_core_free() as core:
        return asyncio.run(_measure(Path(folder), core))


@contextlib.contextmanager
def _one_core_free() -> Generator[int]:
    """Yield a core that this process keeps off meanwhile, if there is another."""
    cores = os.sched_getaffinity(0)
    core = max(cores)
    os.sched_setaffinity(0, cores - {core} or cores)
    try:
        yield core
    finally:
        os.sched_setaffinity(0, cores)


async def _measure(folder: Path, core: int) -> Report:
    async with nodes.running_node(folder, core) as node:
        ways = _ways(node)
        loads: dict[tuple[str, int], list[Load]] = {}
        connects: dict[str, list[list[int]]] = {}
        for round_ in range(ROUNDS + 1):
            for way in ways:
                for connections in CONNECTIONS:
                    load = await _load(node, way, connections, core)
                    if round_:  # the first round warms up
                        loads.setdefault((way.name, connections), []).append(load)
            for way in _connected(ways):
                found = await _connect(node, way, core)
                if round_:
                    connects.setdefault(way.name, []).append(found)
        stats = await node.stats("access_logs.grpc_access_log.logs_")
    return _report(ways, loads, connects, stats)


def _ways(node: Node) -> list[Way]:
    hop = str(NODE_IPV4)
    return [
        Way("direct", "bare-client", node.address("bare-server"), PORT),
        Way("programs only", "client", node.address("open"), PORT),
        Way("kernel load balancing", "client", VIPS["balanced"], 80),
        Way("one plain hop", "bare-client", hop, HOPS["one"], "plain"),
        Way("ingress only", "client", node.address("policed"), PORT, "agent", 1),
        Way("egress only", "client", VIPS["routed"], 80, "agent", 1),
        Way("fused", "client", VIPS["fused"], 80, "agent", 1),
        Way("fused, no access log", "quiet", VIPS["fused"], 80, "agent", 1),
        Way("two plain hops", "bare-client", hop, HOPS["two"], "plain"),
        Way("two passes", "client", VIPS["twice"], 80, "agent", 2),
    ]


def _connected(ways: Sequence[Way]) -> list[Way]:
    """Return the ways whose connect() is timed."""
    wanted = {"direct", "programs only", "kernel load balancing", "ingress only", "egress only"}
    return [way for way in ways if way.name in wanted]


async def _load(node: Node, way: Way, connections: int, core: int) -> Load:
    pid = {"agent": node.envoy, "plain": node.plain}.get(way.envoy)
    command = node.inside(
        way.client, "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency",
        f"http://{way.host}:{way.port}/bench",
    )  # fmt: skip
    passes = await node.passes()
    cpu, own = thread_cpu(pid) if pid else 0.0, time.process_time()
    printed = await output_of(["taskset", "-c", str(core), *command])
    cpu, own = thread_cpu(pid) - cpu if pid else 0.0, time.process_time() - own
    passes = await node.passes() - passes
    requests, seconds, p50 = _parse(printed)
    return Load(
        requests, p50, requests / seconds, cpu / requests * 1e6, own / requests * 1e6,
        passes / requests,
    )  # fmt: skip


def _parse(printed: str) -> tuple[int, float, float]:
    """Return requests, seconds and the median latency in microseconds of wrk's output."""
    requests, median = _REQUESTS.search(printed), _MEDIAN.search(printed)
    if requests is None or median is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"wrk: {printed}")
    return int(requests[1]), float(requests[2]), float(median[1]) * _UNITS[median[2]]


async def _connect(node: Node, way: Way, core: int) -> list[int]:
    python = [sys.executable, "-S", "-E", str(CONNECTOR)]
    command = node.inside(way.client, *python, way.host, str(way.port), str(CONNECTS))
    found: list[int] = json.loads(await output_of(["taskset", "-c", str(core), *command]))
    return found


def _report(
    ways: Sequence[Way],
    loads: dict[tuple[str, int], list[Load]],
    connects: dict[str, list[list[int]]],
    stats: dict[str, int],
) -> Report:
    raw: dict[str, Any] = {
        f"{name}, c={connections}": {
            field: _field(found, field) for field in Load.__struct_fields__
        }
        for (name, connections), found in loads.items()
    }
    raw["connect"] = {name: {"p50": _quantile(f, 0.5)} for name, f in connects.items()}
    return Report(
        topic="path",
        title="The way of a captured request",
        about=ABOUT,
        tables=[
            _requests(ways, loads), _ratios(ways, loads), _connects(connects),
            _access_log(ways, loads, stats),
        ],
        raw=raw,
    )  # fmt: skip


def _field(found: Sequence[Load], name: str) -> Samples:
    return samples(getattr(load, name) for load in found)


def _requests(ways: Sequence[Way], loads: dict[tuple[str, int], list[Load]]) -> Table:
    rows: list[list[str]] = []
    for way in ways:
        one, many = (loads[way.name, connections] for connections in CONNECTIONS)
        cpu = [str(_field(f, "envoy")) if way.envoy else "-" for f in (one, many)]
        best = max(load.rate for load in many)
        rate = f"{number(best)} / {number(_field(many, 'rate').median)}"
        seen = f"{_field(many, 'passes').median:.2f}"
        rows.append([way.name, str(_field(one, "p50")), *cpu, rate, seen])
    return Table(
        title="Requests",
        header=[
            "way", "p50 µs, c=1", "CPU of Envoy, µs/request, c=1", "the same, c=16",
            "requests/s, c=16: best / median", "passes of the agent's Envoy",
        ],
        rows=rows,
    )  # fmt: skip


def _ratios(ways: Sequence[Way], loads: dict[tuple[str, int], list[Load]]) -> Table:
    pairs = [
        ("ingress only", "one plain hop"),
        ("egress only", "one plain hop"),
        ("fused", "one plain hop"),
        ("fused, no access log", "one plain hop"),
        ("two passes", "two plain hops"),
        ("fused", "two passes"),
        ("fused", "two plain hops"),
        ("kernel load balancing", "direct"),
        ("kernel load balancing", "programs only"),
    ]
    by_name = {way.name: way for way in ways}
    rows: list[list[str]] = []
    for name, other in pairs:
        row = [f"{name} : {other}"]
        for connections in CONNECTIONS:
            mine, theirs = loads[name, connections], loads[other, connections]
            row.append(_field(mine, "p50").over(_field(theirs, "p50")))
            counted = by_name[name].envoy and by_name[other].envoy
            row.append(_field(mine, "envoy").over(_field(theirs, "envoy")) if counted else "-")
        rows.append(row)
    return Table(
        title="Requests: ratios",
        header=["ways", "p50, c=1", "CPU, c=1", "p50, c=16", "CPU, c=16"],
        rows=rows,
    )


def _quantile(found: Sequence[Sequence[int]], share: float) -> Samples:
    """Return a quantile of each round, in microseconds."""
    return samples(sorted(one)[int(len(one) * share)] / 1e3 for one in found)


def _connects(connects: dict[str, list[list[int]]]) -> Table:
    direct = _quantile(connects["direct"], 0.5)
    programs = _quantile(connects["programs only"], 0.5)
    rows = [
        [
            name, str(_quantile(found, 0.5)), str(_quantile(found, 0.99)),
            number(statistics.fmean(min(one) for one in found) / 1e3),
            _quantile(found, 0.5).over(direct), _quantile(found, 0.5).over(programs),
        ]
        for name, found in connects.items()
    ]  # fmt: skip
    return Table(
        title=f"connect(), µs, {CONNECTS} in a round",
        header=["way", "p50", "p99", "least", "p50 : direct", "p50 : programs only"],
        rows=rows,
    )


def _access_log(
    ways: Sequence[Way], loads: dict[tuple[str, int], list[Load]], stats: dict[str, int]
) -> Table:
    rows = [
        [way.name, *(str(_field(loads[way.name, c], "agent")) for c in CONNECTIONS)]
        for way in ways
        if way.envoy == "agent" or way.name == "direct"
    ]
    written = sum(value for name, value in stats.items() if name.endswith("logs_written"))
    dropped = sum(value for name, value in stats.items() if name.endswith("logs_dropped"))
    return Table(
        title="The agent's share, CPU µs/request",
        header=["way", "c=1", "c=16"],
        rows=rows,
        notes=[
            "The agent runs in the process of the bench: `direct` is what the bench itself does.",
            f"Access log entries of the whole run: {written} written, {dropped} dropped by Envoy.",
        ],
    )
