"""What the demo shows without root or eBPF: a Gateway in front of servers on this machine."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from penstock.cli.demo.script import Script
from penstock.cli.demo.stage import Stage
from penstock.cli.demo.steps import (
    CONNECTIONS,
    OK,
    RATE,
    break_and_mend,
    canary,
    check_steady,
    kill_envoy,
    kill_part,
)

_HOST = "shop.test"
_PORTS = ("9000", "9001", "9002")
"""Ports in the example's files, of the Gateway and of two servers, exchanged for free ones."""


async def play_gateways(example: Path, stage: Stage, script: Script, reason: str) -> None:
    """Play what needs no rights.

    Args:
        example: the folder examples/gateway.
        stage: where it happens.
        script: told what is found.
        reason: why not everything can be played.
    """
    ports = free_ports(len(_PORTS))
    copy_with_ports(example, stage.folder, ports)
    script.note(f"penstock up --only-gateways {stage.folder}: a Gateway, orders v1 and v2")
    for port, version in zip(ports[1:], ("v1", "v2"), strict=True):
        await stage.serve(PORT=str(port), VERSION=version)
    began = time.monotonic()
    await stage.start()
    script.note(f"ready in {time.monotonic() - began:.1f} s")
    script.step(1, "No policy: all talk to all")
    script.leave_out("requests from pod to pod", reason)
    script.step(2, "policy.yaml is saved: in force within a second, no restart, no sidecar")
    script.leave_out("200, 403 and refused connections between pods", reason)
    await _play(stage, script)


async def _play(stage: Stage, script: Script) -> None:
    at = stage.gateway()
    load = await stage.load_from_here(
        "GET", f"http://{at}/", str(RATE), str(CONNECTIONS), f"host={_HOST}"
    )
    script.step(3, f"Canary: weights move under {RATE} requests/s through the Gateway")
    await canary(stage, script, load)
    script.step(4, "kill -9 of controller, agent, Envoy, under the same load")
    for name in ("controller", "agent"):
        await kill_part(stage, script, load, name)
    _, back = await kill_envoy(stage, script, load)
    await asyncio.sleep(1.5)
    check_steady(script, load, back)
    script.step(5, "A broken YAML file: the last good one stays in force")

    async def still_right() -> None:
        status = await asyncio.to_thread(stage.ask_gateway, at, "GET", "/", _HOST)
        script.check(f"GET http://{at}/", str(OK), str(status), holds=status == OK)

    await break_and_mend(
        stage, script, load, file="canary.yaml", word="backendRefs", still_right=still_right
    )
    await load.stop()


def copy_with_ports(example: Path, folder: Path, ports: Sequence[int]) -> None:
    """Copy the example to *folder* with other ports: the Gateway's and those of the servers."""
    folder.mkdir()
    for file in sorted(example.glob("*.yaml")):
        text = file.read_text()
        for written, port in zip(_PORTS, ports, strict=True):
            text = text.replace(written, str(port))
        (folder / file.name).write_text(text)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody has, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
