"""10,000 HTTPRoutes, 5,000 Services and 20,000 endpoints from a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path

import msgspec

from bench import kube_objects, kube_phases
from bench.clients import listens
from bench.kube_controller import PATIENCE, PAUSE, Clients, Controller, Sync, clients
from bench.kube_controller import controller as controller_at
from bench.kube_crowd import (
    BURST,
    NODES,
    Burst,
    Crowd,
    Fan,
    Turns,
    burst_tables,
    column,
    crowd_tables,
)
from bench.kube_load import Writer, on_real_api
from bench.kube_objects import Backends, Raw
from bench.live import test_listener
from bench.processes import (
    Prober,
    answer_at,
    envoy_command,
    free_port,
    own_address,
    probing,
    running,
    write_json,
)
from bench.report import Report, Table, number, samples
from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from support.kube import KubeApi
from support.real_envoy import eventually

WRITING = 3
"""So many times as long as a controller may take otherwise the first one takes to rest, at most."""
SYNCS, CHANGES, FANS, STORMS = 7, 20, 10, 2
FULL_FANS, FULL_STORMS = 3, 1
PROCESSES = 2
FULL_PATIENCE = 600.0
REST = 0.05
_MS = 1e3

ABOUT = f"""\
A real etcd and kube-apiserver hold {kube_objects.NAMESPACES} namespaces with
{kube_objects.SERVICES:,} Services of {kube_objects.ENDPOINTS} endpoints each and two HTTPRoutes for
each Service: one on the Service, one on the only Gateway with a hostname of its own; each route has
two rules. There are no Pods. Everything is on this machine: the API server takes part of it, too.

* **Start**: `penstock controller --kubeconfig …` from the start of its process until a client that
  waits for it, and was started before it, has the first bytes, and everything, {SYNCS} times; the
  API server has had {PAUSE:.0f} s to itself before. CPU is that of all threads of the controller,
  and of the copy of it that compiles a part (`docs/decisions/0014-a-copy-compiles-too.md`). Its
  modules are compiled beforehand, as they are in an image.
* **Phases**: the same bytes step by step in one thread, CPU.
* **One change**: PATCH to the API server until a prober is served the new way by a stock Envoy that
  is connected to the controller, without agent; *committed* counts from the answer to it.
* **{NODES} nodes**, with the first {kube_objects.FIRST} Services and their routes only: clients
  that take everything, as agents do, in {PROCESSES} processes, a connection each. They come as
  agents that have everything already, and report so. A change of one endpoint counts until the
  last of them has answered; a storm from the moment when all connections are cut at once until the
  last client is in step again, its CPU until all reports are read. Then the same with everything,
  if that is over within {FULL_PATIENCE:.0f} s: else there is no such table.
* **A burst**: {BURST:,} EndpointSlices are changed over many connections, as fast as the API server
  takes it, while a client takes everything.
"""


class Found(msgspec.Struct, kw_only=True):
    """All measurements."""

    created: float = 0.0
    objects: int = 0
    syncs: list[Sync] = []
    phases: kube_phases.Phases | None = None
    part: Sync | None = None
    """Start of the controller with the part of the cluster that many nodes get."""
    together: int = 0
    """Most MiB of a controller and its helper, what they share counted once."""
    settled: float = 0.0
    """Seconds from the start of its process until a controller rests: all statuses are compared."""
    burst: Burst | None = None
    served: dict[str, list[float]] = {}
    committed: dict[str, list[float]] = {}
    busy: float = 0.0
    """CPU milliseconds of the controller for one change."""
    part_crowd: Crowd | None = None
    full: Crowd | None = None
    """Many nodes with everything."""
    asked: int = 0
    failed: int = 0


def run() -> Report | str:
    """Measure; about five minutes."""
    found = on_real_api(_measure)
    return found if isinstance(found, str) else _report(found)


async def _measure(api: KubeApi, folder: Path) -> Found:
    found = Found()
    address = own_address()
    backends = Backends(address, (free_port(address), free_port(address)))
    async with Writer(api) as writer:
        await writer.create(kube_objects.namespaces())
        await writer.create(kube_objects.common())
        await writer.create(kube_objects.services(backends, 0, kube_objects.FIRST))
        async with controller_at(api, folder / "many") as controller:
            found.part = await controller.sync()
            await controller.settled()
            await controller.remember(folder / "brought")
            few = Turns(FANS, STORMS)
            found.part_crowd = await _many(controller, writer, backends, folder / "brought", few)
        start = time.monotonic()
        rest = kube_objects.services(backends, kube_objects.FIRST, kube_objects.SERVICES)
        found.objects = await writer.create(rest)
        found.created = time.monotonic() - start
        async with controller_at(api, folder / "first") as controller:
            await controller.sync()
            for _ in range(WRITING):
                await controller.settled()  # all statuses are written
        found.phases = await asyncio.to_thread(kube_phases.measure, api)
        for turn in range(SYNCS):
            await asyncio.sleep(PAUSE)
            async with controller_at(api, folder / f"s{turn}") as controller:
                found.syncs.append(await controller.sync())
        async with controller_at(api, folder / "run") as controller:
            found.together = await controller.together()
            found.settled = await controller.settled()
            with _serving(folder, backends):
                await _change(found, controller, writer, backends)
            full = Turns(FULL_FANS, FULL_STORMS)
            # Without an answer in time the page has no such table, instead of there being no page.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    found.burst = await _burst(controller, writer, backends)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FULL_PATIENCE):
                    brought = folder / "brought"
                    await controller.remember(brought)
                    found.full = await _many(controller, writer, backends, brought, full)
    return found


@contextlib.contextmanager
def _serving(folder: Path, backends: Backends) -> Generator[None]:
    """Run what the first Services lead to."""
    listeners = [
        answer_at(backends.address, port, "", f"backend-{index}.")
        for index, port in enumerate(backends.ports)
    ]
    file = write_json(folder / "backends.json", {"static_resources": {"listeners": listeners}})
    with running(envoy_command(file), folder / "backends.log"):
        yield


@contextlib.asynccontextmanager
async def _envoy(controller: Controller) -> AsyncGenerator[Prober]:
    """Run an Envoy at the controller, with one listener of its own, and a prober."""
    folder = controller.paths.root
    made = bootstrap(
        BootstrapOptions(
            node="bench", ads_socket=controller.paths.controller_ads.name, max_heap_bytes=8 << 30
        )
    )
    made.static_resources.listeners.append(listener_pb2.Listener.FromString(test_listener().body))
    (folder / "envoy.json").write_text(to_json(made))
    command = envoy_command(folder / "envoy.json")
    with running(command, folder / "envoy.log", folder):
        await eventually(lambda: listens(folder / "web.sock"), PATIENCE)
        async with probing(folder / "web.sock") as prober:
            yield prober


async def _change(found: Found, controller: Controller, writer: Writer, backends: Backends) -> None:
    """Change one endpoint and one route, forth and back."""
    scope = f"eg|{kube_objects.virtual_address(0)}:80"
    changes: dict[str, tuple[Callable[[int], Raw], tuple[str, str]]] = {
        "endpoint": (
            lambda turn: kube_objects.endpoint_slice(0, backends, turn),
            ("backend-0.", "backend-1."),
        ),
        "route": (
            lambda turn: kube_objects.mesh_route(0, turn),
            ("x-version: v0.", "x-version: v1."),
        ),
    }
    async with _envoy(controller) as prober:
        await controller.settled()
        cpu = controller.cpu
        for name, (version, markers) in changes.items():
            for turn in range(1, CHANGES + 1):
                await asyncio.sleep(REST)
                await prober.expect(scope, markers[turn % 2])
                start = time.monotonic()
                await writer.replace(version(turn % 2))
                committed = time.monotonic()
                served = await prober.seen()
                found.served.setdefault(name, []).append((served - start) * _MS)
                found.committed.setdefault(name, []).append((served - committed) * _MS)
        found.busy = (controller.cpu - cpu) * _MS / (CHANGES * len(changes))
        found.asked, found.failed = prober.asked, prober.failed


async def _burst(controller: Controller, writer: Writer, backends: Backends) -> Burst:
    """Change many EndpointSlices at once."""
    first = kube_objects.PROBED + 1  # the one before is changed for many nodes
    slices = range(first, first + BURST)
    async with clients(controller.paths, NODES, 1) as client:
        await client.ask("connect")
        await client.answer()
        await controller.settled()
        cpu, start = controller.cpu, time.monotonic()
        await writer.replace_all(kube_objects.endpoint_slice(i, backends, 1) for i in slices)
        written = time.monotonic() - start
        done = await controller.settled() + controller.started - start
        return Burst(written=written, done=max(done, written), cpu=controller.cpu - cpu)


async def _many(
    controller: Controller, writer: Writer, backends: Backends, brought: Path, turns: Turns
) -> Crowd:
    """Connect all nodes, change one endpoint, and cut all connections."""
    async with contextlib.AsyncExitStack() as stack:
        share = NODES // PROCESSES
        groups = [
            await stack.enter_async_context(clients(controller.paths, i * share, share, brought))
            for i in range(PROCESSES)
        ]
        cpu = controller.cpu
        await asyncio.gather(*(one.ask("connect") for one in groups))
        crowd = Crowd(joined=await _fan(controller, groups, cpu))
        await controller.settled()  # statuses tell how many nodes have everything
        for turn in range(1, turns.changes + 1):
            await asyncio.sleep(REST)
            await asyncio.gather(*(one.ask(f"expect {types.ENDPOINTS}") for one in groups))
            cpu = controller.cpu
            await writer.replace(kube_objects.endpoint_slice(kube_objects.PROBED, backends, turn))
            crowd.fans.append(await _fan(controller, groups, cpu, time.monotonic()))
        for _ in range(turns.storms):
            await controller.settled()
            cpu = controller.cpu
            await asyncio.gather(*(one.ask("reconnect") for one in groups))
            storm = await _fan(controller, groups, cpu)
            await controller.settled()  # until all reports are read, for its CPU
            crowd.storms.append(msgspec.structs.replace(storm, cpu=controller.cpu - cpu))
        return crowd


async def _fan(
    controller: Controller, groups: list[Clients], cpu: float, since: float | None = None
) -> Fan:
    """Return what it takes until all clients have answered."""
    steps = await asyncio.gather(*(one.answer() for one in groups))
    start = min(step.start for step in steps) if since is None else since
    if since is not None:
        await asyncio.sleep(0.3)  # until the controller has read the last answers, for its CPU
    return Fan(
        seconds=max(step.last for step in steps) - start,
        cpu=controller.cpu - cpu,
        memory=controller.memory,
        size=sum(step.size for step in steps),
    )


def _report(found: Found) -> Report:
    part = f"{kube_objects.FIRST} Services, {2 * kube_objects.FIRST} routes, {_size(found)}"
    everything = f"everything, {number(found.syncs[0].size / 1e6)} MB for each node"
    tables = [_started(found), *_phases(found), _changed(found), *burst_tables(found.burst)]
    tables += [*crowd_tables(found.part_crowd, part), *crowd_tables(found.full, everything)]
    return Report(
        topic="scale",
        title="A large cluster on a real API server",
        about=ABOUT,
        tables=tables,
        raw=msgspec.to_builtins(found),
    )


def _started(found: Found) -> Table:
    syncs = found.syncs
    return Table(
        title="Start of the controller",
        header=["first bytes, s", "everything sent, s", "CPU, s", "most memory, MiB", "MB sent"],
        rows=[
            [
                *(str(column(syncs, name)) for name in ("first", "whole", "cpu", "memory")),
                number(syncs[0].size / 1e6),
            ]
        ],
        notes=[
            "Aims: first bytes after at most 4 s, at most 450 MiB.",
            f"With the copy, what both share counted once: at most {found.together} MiB.",
            _settled(found),
        ],
    )


def _settled(found: Found) -> str:
    made = f"{found.objects} objects were created in {number(found.created)} s"
    rest = f"a controller that finds everything as it should be rests {number(found.settled)} s"
    return f"{made}; {rest} after its start: all statuses are compared."


def _phases(found: Found) -> Iterator[Table]:
    if found.phases is not None:
        rows = [[name, number(value)] for name, value in found.phases.seconds.items()]
        yield Table(title="Phases, CPU s", header=["phase", "time"], rows=rows)


def _changed(found: Found) -> Table:
    return Table(
        title="One change at one node, ms",
        header=["change", "sent to served", "committed to served"],
        rows=[
            [name, str(samples(values)), str(samples(found.committed[name]))]
            for name, values in found.served.items()
        ],
        notes=[
            "Aim: at most 10 ms.",
            f"CPU of the controller: {number(found.busy)} ms for one.",
            f"The prober asked {found.asked} times; {found.failed} failed.",
        ],
    )


def _size(found: Found) -> str:
    return "" if found.part is None else f"{number(found.part.size / 1e6)} MB for each node"
