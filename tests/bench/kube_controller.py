"""A controller at an API server, and simulated nodes that connect to it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from bench.clients import Step
from bench.processes import (
    buried_cpu,
    most_resident,
    proportional,
    running,
    talking,
    thread_cpu,
)
from penstock.meta.paths import RunPaths
from support.kube import KubeApi

PAUSE = 3.0
"""Seconds in which an API server ends what the last controller left it to do."""
PATIENCE = 240.0
LONGEST = 60.0
"""Seconds to wait for a controller that has something to do."""
SILENCE = 2.0
"""Seconds without work after which a controller rests: longer than the pauses of what it paces."""


class Sync(msgspec.Struct, frozen=True, kw_only=True):
    """One start of the controller."""

    first: float
    """Seconds until the first bytes of the snapshot."""
    whole: float
    """Seconds until a client has everything and has accepted it."""
    cpu: float
    """CPU seconds until then."""
    memory: int
    """Most resident MiB until then."""
    size: int
    """Bytes that the client got."""


class Controller:
    """A controller that was started just now, for which a client waits."""

    def __init__(self, pid: int, paths: RunPaths, started: float, client: Clients) -> None:
        self.pid, self.paths, self.started, self._client = pid, paths, started, client

    async def sync(self) -> Sync:
        """Return how long it takes until the client that waited has everything; it ends then."""
        async with asyncio.timeout(PATIENCE):
            step = await self._client.answer()
            await self._client.end()
        return Sync(
            first=step.first - self.started,
            whole=step.last - self.started,
            cpu=self.cpu,
            memory=self.memory,
            size=step.size,
        )

    async def remember(self, brought: Path) -> None:
        """Write down what a client has that has everything as it is now."""
        async with clients(self.paths, 0, 1) as client:
            await client.ask("connect")
            await client.answer()
            await client.ask(f"remember {brought}")

    async def together(self) -> int:
        """Sync, and return the most MiB that it and its helper had in memory meanwhile."""
        syncing = asyncio.create_task(self.sync())
        most = 0
        while not syncing.done():
            most = max(most, proportional(self.pid))
            await asyncio.sleep(0.05)
        await syncing
        return most

    @property
    def cpu(self) -> float:
        """CPU seconds so far, with those of a helper that has ended."""
        return thread_cpu(self.pid) + buried_cpu(self.pid)

    @property
    def memory(self) -> int:
        """Most resident MiB so far."""
        return most_resident(self.pid)

    async def settled(self) -> float:
        """Return how long after its start it has next to nothing to do, LONGEST later at most."""
        busy = time.monotonic()
        end = busy + LONGEST
        while (now := time.monotonic()) < end and now - busy < SILENCE:
            before = self.cpu
            await asyncio.sleep(0.5)
            if self.cpu - before > 0.05:
                busy = time.monotonic()
        return busy - self.started


@contextlib.asynccontextmanager
async def controller(api: KubeApi, folder: Path) -> AsyncGenerator[Controller]:
    """Run a controller until the block ends, and before it a client that waits for it."""
    paths = RunPaths(folder)
    command = [
        *(sys.executable, "-m", "penstock.cli", "controller", "--run-dir", str(folder)),
        *("--kubeconfig", str(api.kubeconfig), "--only-gateways"),
    ]
    log = folder.parent / "controller.log"
    async with clients(paths, 0, 1) as client:
        await client.ask("connect")
        started = time.monotonic()
        with running(command, log, end=signal.SIGTERM) as process:
            yield Controller(process.pid, paths, started, client)


class Clients:
    """A process of simulated nodes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    async def ask(self, line: str) -> None:
        """Ask for something; return when the process waits for it."""
        self._stdin.write(f"{line}\n".encode())
        await self.ready()

    async def ready(self) -> None:
        """Return when the process says that it waits."""
        said = await self._stdout.readline()
        assert said.strip() == b'"ready"', said

    async def end(self) -> None:
        """Have the process end."""
        self._stdin.write(b"end\n")
        await self._process.wait()

    async def answer(self) -> Step:
        return msgspec.json.decode(await self._stdout.readline(), type=Step)


@contextlib.asynccontextmanager
async def clients(
    of: RunPaths, first: int, count: int, brought: Path | None = None
) -> AsyncGenerator[Clients]:
    """Run a process that is ready to connect, as node *first* and those after it."""
    program = Path(__file__).with_name("clients.py")
    words = [str(of.controller_ads), str(first), str(count)]
    if brought is not None:
        words.append(str(brought))
    async with talking(sys.executable, program, *words) as process:
        made = Clients(process)
        await made.ready()
        yield made
