"""Penstock on a real API server without eBPF, and who asks it: what several benches share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

from bench.processes import answer_at, envoy_command, running, talking, write_json
from support.kube import KubeApi
from support.real_envoy import eventually

PATIENCE = 60.0
"""Seconds for anything to come."""


class Prober:
    """A process that asks: `route_prober.py` or `grant_prober.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    async def ask(self, line: str) -> None:
        """Begin something; return once it has been answered for the first time."""
        await self.tell(line)
        said = await self.answer()
        assert said == "ready", f"{line}: {said}"

    async def tell(self, line: str) -> None:
        self._stdin.write(f"{line}\n".encode())
        await self._stdin.drain()

    async def answer(self) -> Any:
        return json.loads(await self._stdout.readline())


@contextlib.asynccontextmanager
async def prober_of(program: str, *words: str) -> AsyncGenerator[Prober]:
    """Run a program of this folder."""
    file = Path(__file__).with_name(program)
    async with talking(sys.executable, "-S", "-E", file, *words) as process:
        yield Prober(process)


async def listening(port: int) -> None:
    """Return once somebody listens at *port* of loopback."""
    await eventually(functools.partial(_listens, port), PATIENCE)


def _listens(port: int) -> bool:
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def penstock(api: KubeApi, run_folder: Path) -> Generator[None]:
    """Run a controller, an agent and its Envoy."""
    program = [sys.executable, "-m", "penstock.cli"]
    common = ["--run-dir", str(run_folder), "--only-gateways"]
    controller = [*program, "controller", *common, "--kubeconfig", str(api.kubeconfig)]
    agent = [*program, "agent", *common, "--node", "lab", "--stop-envoy", "--concurrency", "1"]
    folder = run_folder.parent
    with (
        running(controller, folder / "controller.log", end=signal.SIGTERM),
        running(agent, folder / "agent.log", end=signal.SIGTERM),
    ):
        yield


@contextlib.contextmanager
def serving(folder: Path, address: str, ports: tuple[int, int]) -> Generator[None]:
    """Run what the Services lead to."""
    listeners = [
        answer_at(address, port, "", f"backend-{index}.") for index, port in enumerate(ports)
    ]
    file = write_json(folder / "backends.json", {"static_resources": {"listeners": listeners}})
    with running(envoy_command(file), folder / "backends.log"):
        yield
