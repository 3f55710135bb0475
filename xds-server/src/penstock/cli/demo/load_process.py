"""A load that runs inside a pod, and its results as they come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.cli import load
from penstock.cli.load import Answer
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

_OK = 200
_END_SECONDS = 6.0


class _Line(msgspec.Struct, frozen=True):
    t: float
    results: list[tuple[int, str, str, int]]


class Window(msgspec.Struct, frozen=True):
    """What came back until one moment, since the window before."""

    time: float
    """Monotonic, seconds, the same clock in all processes."""
    results: Counter[Answer]


class Tally(msgspec.Struct, frozen=True):
    """Results of some windows together."""

    results: Counter[Answer]

    @property
    def total(self) -> int:
        """Return how many requests there were."""
        return sum(self.results.values())

    def with_status(self, status: int) -> int:
        """Return how many were answered with *status*."""
        return sum(n for answer, n in self.results.items() if answer.status == status)

    @property
    def failures(self) -> int:
        """Return how many were not answered with 200."""
        return self.total - self.with_status(_OK)

    @property
    def complaints(self) -> str:
        """Return what went wrong, with numbers."""
        wrong = Counter[str]()
        for answer, count in self.results.items():
            if answer.status != _OK:
                wrong[answer.error or f"status {answer.status}"] += count
        return ", ".join(f"{count} of {what}" for what, count in wrong.most_common(3))

    def share(self, version: str) -> float:
        """Return the share of answers from *version*, 0 to 1."""
        of_version = sum(n for answer, n in self.results.items() if answer.version == version)
        return of_version / self.total if self.total else 0.0


class LoadProcess:
    """One running load."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Read what *process* prints."""
        self._process = process
        self._windows: list[Window] = []
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    def since(self, moment: float, until: float = float("inf")) -> Tally:
        """Return what came back after *moment*, monotonic, and before *until*."""
        total: Counter[Answer] = Counter()
        for window in self._windows:
            if moment < window.time <= until:
                total.update(window.results)
        return Tally(total)

    def first(self, moment: float, wanted: Callable[[Answer], bool]) -> float | None:
        """Return when the first answer after *moment* that is *wanted* came; None if none did."""
        for window in self._windows:
            if window.time > moment and any(wanted(answer) for answer in window.results):
                return window.time
        return None

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return whether *condition*, which looks at results, came to hold in *seconds*."""
        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(condition)
        except TimeoutError:
            return condition()
        return True

    async def wait_for_results(self, seconds: float) -> None:
        """Return when the first answer came, or after *seconds*."""
        await self.wait_until(lambda: self.since(0).total > 0, seconds)

    async def stop(self) -> None:
        """End the load; what is on its way is waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._reading
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it was asked for
        async for text in self._process.stdout:
            line = msgspec.json.decode(text, type=_Line)
            counted: Counter[Answer] = Counter()
            for status, version, error, count in line.results:
                counted[Answer(status, version, error)] += count
            async with self._arrived:
                self._windows.append(Window(line.t, counted))
                self._arrived.notify_all()


def inside(paths: RunPaths, pod: str, *words: str) -> list[str]:
    """Return the command line that runs the load program in *pod* of the instance."""
    run_dir = ["--run-dir", str(paths.root)]
    return [sys.executable, "-m", "penstock.cli", "exec", *run_dir, pod, "--", *here(*words)]


def here(*words: str) -> list[str]:
    """Return the command line that runs the load program on this machine."""
    return [sys.executable, "-I", "-S", str(Path(load.__file__)), *words]


async def start_load(argv: list[str]) -> LoadProcess:
    """Start a load by its command line, see `inside`."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    return LoadProcess(process)


async def ask(argv: list[str]) -> list[Answer]:
    """Return the answers to a few requests, by the command line of `load.py ask`.

    Raises:
        PenstockError: the program could not run.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    output, complaints = await process.communicate()
    if process.returncode:
        raise PenstockError(f"{' '.join(argv[-6:])}: {complaints.decode(errors='replace')[-500:]}")
    return [
        Answer(**msgspec.json.decode(line, type=dict[str, str | int]))  # type: ignore[arg-type]  # the fields are those of Answer
        for line in output.splitlines()
    ]
