"""The start of a controller beside that of a peer, at the same API server and by turns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from bench import kube_objects
from bench.envoy_gateway import CONTROLLER, EnvoyGateway, program
from bench.kube_controller import Sync
from bench.kube_controller import controller as controller_at
from bench.kube_crowd import column
from bench.kube_load import Writer, on_real_api
from bench.kube_objects import Backends
from bench.report import Report, Table, number
from support.kube import KubeApi, MissingProgramError

TURNS = 3
PAUSE = 3.0
"""Seconds in which an API server ends what the last controller left it to do."""
CLASS = "envoy-gateway"

ABOUT = f"""\
A real etcd and kube-apiserver hold the objects of [scale](scale.md): {kube_objects.NAMESPACES}
namespaces with {kube_objects.SERVICES:,} Services of {kube_objects.ENDPOINTS} endpoints each and
two HTTPRoutes for each Service, one on the Service and one on the only Gateway. Both controllers
start there by turns, the Gateway being of the class of the one that does; everything is on this
machine, the API server takes part of it, too.

* **Penstock** serves all routes: those of the Gateway, and those of the mesh.
* **Envoy Gateway** (built from its Go module, one replica, without leader election, logging
  warnings only) serves the routes of the Gateway; it has nothing to do with those on Services.

Time is from the start of the process until a client of its xDS that waits for it has the first
bytes, and has everything; CPU and memory are those at the first bytes. Pairs are minimum / median.
"""


class Found(msgspec.Struct):
    """All starts."""

    penstock: list[Sync] = []
    envoy_gateway: list[Sync] = []


def run() -> Report | str:
    """Measure in a network namespace of its own; about four minutes."""
    try:
        program()
    except MissingProgramError:
        return "make kube-tools TOOLS=envoy-gateway builds the peer (ten minutes)"
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
        await writer.create([kube_objects.gateway_class(CLASS, CONTROLLER)])
        backends = Backends("192.0.2.10", (9001, 9002))  # nobody asks them
        await writer.create(kube_objects.services(backends, 0, kube_objects.SERVICES))
        gateway = kube_objects.gateway()["metadata"]
        peer = EnvoyGateway(
            api, folder / "envoy-gateway", f"{gateway['namespace']}/{gateway['name']}"
        )
        for turn in range(TURNS):
            await writer.replace(kube_objects.gateway())
            await asyncio.sleep(PAUSE)
            async with controller_at(api, folder / f"s{turn}") as controller:
                found.penstock.append(await controller.sync())
            await writer.replace(kube_objects.gateway(CLASS))
            await asyncio.sleep(PAUSE)
            found.envoy_gateway.append(await peer.sync())
    return found


def _report(found: Found) -> Report:
    sides = {"Penstock": found.penstock, "Envoy Gateway": found.envoy_gateway}
    columns = ("first", "whole", "cpu", "memory")
    rows = [
        [name, *(str(column(syncs, one)) for one in columns), number(syncs[0].size / 1e6)]
        for name, syncs in sides.items()
    ]
    ratio = column(found.penstock, "first").over(column(found.envoy_gateway, "first"))
    return Report(
        topic="peers",
        title="The start of a controller beside a peer",
        about=ABOUT,
        tables=[
            Table(
                title="10,000 HTTPRoutes at an API server",
                header=[
                    *("controller", "first bytes, s", "everything sent, s", "CPU, s"),
                    *("most memory, MiB", "MB sent"),
                ],
                rows=rows,
                notes=[f"First bytes, Penstock over Envoy Gateway: {ratio}."],
            )
        ],
        raw=msgspec.to_builtins(found),
    )


if __name__ == "__main__":
    measured = on_real_api(_measure)
    if isinstance(measured, str):
        sys.exit(measured)
    sys.stdout.buffer.write(msgspec.json.encode(measured))
