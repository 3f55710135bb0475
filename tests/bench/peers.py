"""The start of a controller beside those of peers, at the same API server and by turns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from bench import envoy_gateway, istiod, kube_objects
from bench.envoy_gateway import EnvoyGateway
from bench.istiod import Istiod
from bench.kube_controller import PAUSE, Sync
from bench.kube_controller import controller as controller_at
from bench.kube_crowd import column
from bench.kube_load import Writer, on_real_api
from bench.kube_objects import Backends
from bench.report import Report, Table, number
from support.kube import KubeApi, MissingProgramError

TURNS = 3
CLASS = "envoy-gateway"

ABOUT = f"""\
A real etcd and kube-apiserver hold the objects of [scale](scale.md): {kube_objects.NAMESPACES}
namespaces with {kube_objects.SERVICES:,} Services of {kube_objects.ENDPOINTS} endpoints each and
two HTTPRoutes for each Service, one on the Service and one on the only Gateway. The controllers
start there by turns, the Gateway being of the class of Penstock or of Envoy Gateway; everything is
on this machine, the API server takes part of it, too.

* **Penstock** serves all routes to every node: those of the mesh, and those of the Gateway.
* **istiod** (built from its Go module) is asked by what would be a sidecar: it serves the routes of
  the mesh. It makes routes when they are asked for, after the first bytes.
* **Envoy Gateway** (built from its Go module) serves the routes of the Gateway; it has nothing to
  do with those on Services.

What controllers have written of statuses when they end is there at the next turn; unlike in scale,
nobody waits until all are written. Each is one process with default settings that logs warnings,
and starts when the API server has had {PAUSE:.0f} s to itself. Time is from its start until a
client of its xDS that waits for it has the first bytes, and has everything. CPU and memory are
those at the first bytes, of Penstock those when everything is sent. Pairs are minimum / median.
"""


class Found(msgspec.Struct):
    """All starts."""

    penstock: list[Sync] = []
    istiod: list[Sync] = []
    envoy_gateway: list[Sync] = []


def run() -> Report | str:
    """Measure in a network namespace of its own; about six minutes."""
    try:
        envoy_gateway.program()
        istiod.program()
    except MissingProgramError:
        return "make kube-tools TOOLS=peers builds the peers (twenty minutes, once)"
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    inside = 'ip link set lo up && exec "$0" -m bench.peers'
    command = ["unshare", "--net", "--kill-child", "sh", "-c", inside, sys.executable]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return _report(msgspec.json.decode(done.stdout, type=Found))


async def _measure(api: KubeApi, folder: Path) -> Found:
    found = Found()
    async with Writer(api) as writer:
        await writer.create(kube_objects.namespaces())
        await writer.create(kube_objects.common())
        class_ = kube_objects.gateway_class(CLASS, envoy_gateway.CONTROLLER)
        await writer.create([class_])
        backends = Backends("192.0.2.10", (9001, 9002))  # nobody asks them
        await writer.create(kube_objects.services(backends, 0, kube_objects.SERVICES))
        gateway = kube_objects.gateway()["metadata"]
        of_mesh = Istiod(api, folder / "istiod", kube_objects.namespace(0))
        of_gateway = EnvoyGateway(
            api, folder / "envoy-gateway", f"{gateway['namespace']}/{gateway['name']}"
        )
        for turn in range(TURNS):
            await writer.replace(kube_objects.gateway())
            await asyncio.sleep(PAUSE)
            async with controller_at(api, folder / f"s{turn}") as controller:
                found.penstock.append(await controller.sync())
            await asyncio.sleep(PAUSE)
            found.istiod.append(await of_mesh.sync())
            await writer.replace(kube_objects.gateway(CLASS))
            await asyncio.sleep(PAUSE)
            found.envoy_gateway.append(await of_gateway.sync())
    return found


def _report(found: Found) -> Report:
    sides = {
        "Penstock": found.penstock,
        "istiod": found.istiod,
        "Envoy Gateway": found.envoy_gateway,
    }
    columns = ("first", "whole", "cpu", "memory")
    rows = [
        [name, *(str(column(syncs, one)) for one in columns), number(syncs[0].size / 1e6)]
        for name, syncs in sides.items()
    ]
    first = {name: column(syncs, "first") for name, syncs in sides.items()}
    ours = first.pop("Penstock")
    return Report(
        topic="peers",
        title="The start of a controller beside peers",
        about=ABOUT,
        tables=[
            Table(
                title="10,000 HTTPRoutes at an API server",
                header=[
                    *("controller", "first bytes, s", "everything sent, s", "CPU, s"),
                    *("most memory, MiB", "MB sent"),
                ],
                rows=rows,
                notes=[
                    f"First bytes, Penstock over {name}: {ours.over(theirs)}."
                    for name, theirs in first.items()
                ],
            )
        ],
        raw=msgspec.to_builtins(found),
    )


if __name__ == "__main__":
    measured = on_real_api(_measure)
    if isinstance(measured, str):
        sys.exit(measured)
    sys.stdout.buffer.write(msgspec.json.encode(measured))
