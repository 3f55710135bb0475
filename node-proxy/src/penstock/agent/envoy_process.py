"""One Envoy on the node: start it, adopt it, start it again, drain and stop it.

Envoy has its own session and no hot restart (with it, Envoy dies with the thread that started
it), so it outlives the agent. What tells a later agent that a process is this Envoy is the record
that the launcher wrote: process id and start time, which the kernel never gives out twice in one
boot.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import sys
import time
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from penstock.agent.admin import AdminUnavailableError, EnvoyAdmin
from penstock.meta.back_off import Restarts
from penstock.runtime.processes import start_ticks

LAUNCHER = Path(__file__).with_name("launch.py")
STABLE_SECONDS = 10.0
"""An Envoy that lived as long is started again at once."""
PAUSES = (0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0)
"""Seconds before the first, second, ... start after a short life."""

log = structlog.get_logger(__name__)


class ProcessState(enum.Enum):
    """What the supervisor does."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """It died too often in a row; the next start comes after a delay."""
    DRAINING = "draining"


class EnvoyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What Envoy is told on its command line, whoever starts it."""

    bootstrap: Path
    concurrency: int | None = None
    """Worker threads; None is one for each processor."""
    drain_seconds: int = 30
    """How long connections of a removed listener may go on."""

    def arguments(self) -> list[str]:
        """Return the command line without the program."""
        given = [
            *("--config-path", str(self.bootstrap)),
            *("--disable-hot-restart", "--log-level", "warning"),
            *("--drain-time-s", str(self.drain_seconds), "--drain-strategy", "immediate"),
        ]
        if self.concurrency is not None:
            given += ["--concurrency", str(self.concurrency)]
        return given


class EnvoyCommand(msgspec.Struct, frozen=True, kw_only=True):
    """How Envoy is started."""

    executable: Path
    folder: Path
    """The working folder; paths below are relative to it or absolute."""
    options: EnvoyOptions
    admin_socket: Path
    log: Path
    record: Path
    netns: Path | None = None
    cgroup: Path | None = None
    files: int = 1 << 20

    def argv(self) -> list[str]:
        """Return the whole command line, launcher included."""
        envoy = [str(self.executable), *self.options.arguments()]
        placed = [str(self.netns or "-"), str(self.cgroup or "-"), str(self.files)]
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(self.record), str(self.folder)]
        return [*launcher, *placed, *envoy]


class ProcessRecord(msgspec.Struct, frozen=True):
    """What is written down about a started Envoy."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/<pid>/stat: clock ticks since boot."""
    boot_id: str
    started: float
    """Seconds since 1970."""


class EnvoyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State for the status page."""

    state: ProcessState
    pid: int | None
    uptime: float
    """Seconds; 0 if it does not run."""
    restarts: int
    adopted: bool


def boot_id() -> str:
    """Return the kernel's name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class _Process:
    """One running Envoy, ours or adopted, watched and signalled through its pidfd."""

    def __init__(self, record: ProcessRecord, *, adopted: bool) -> None:
        self.record = record
        self.adopted = adopted
        self.exit_status: int | None = None
        self._pidfd = os.pidfd_open(record.pid)
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self.adopted:
            _, status = os.waitpid(self.record.pid, 0)
            self.exit_status = os.waitstatus_to_exitcode(status)
        self._gone.set()

    async def gone(self) -> None:
        await self._gone.wait()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)


class Envoy(Protocol):
    """The node's Envoy, whoever keeps it alive."""

    def status(self) -> EnvoyStatus:
        """Return what is known now, without asking Envoy."""
        ...

    async def run(self) -> None:
        """Care for it until cancelled."""
        ...

    async def stop(self, *, drain: float = 0.0) -> None:
        """End it, if that is ours to do; *drain* in seconds."""
        ...


class EnvoyProcess:
    """Supervisor of the node's Envoy."""

    def __init__(self, command: EnvoyCommand) -> None:
        """Prepare to start *command*; nothing is started before `run`."""
        self._command = command
        self._state = ProcessState.STOPPED
        self._process: _Process | None = None
        self._restarts = 0
        self._stopping = asyncio.Event()
        self.admin = EnvoyAdmin(command.folder / command.admin_socket)

    def status(self) -> EnvoyStatus:
        """Return what is known now, without asking Envoy."""
        process = self._process
        return EnvoyStatus(
            state=self._state,
            pid=process.record.pid if process else None,
            uptime=time.time() - process.record.started if process else 0.0,
            restarts=self._restarts,
            adopted=process is not None and process.adopted,
        )

    async def run(self) -> None:
        """Keep one Envoy alive until `stop`; cancel to leave it running for the next agent."""
        restarts = Restarts(PAUSES, STABLE_SECONDS)
        try:
            while not self._stopping.is_set():
                process = await self._adopt() or self._spawn()
                began = time.monotonic()
                self._process = process
                self._state = ProcessState.RUNNING
                await process.gone()
                self._process = None
                process.close()
                if self._stopping.is_set():
                    break
                self._restarts += 1
                log.warning(
                    "envoy died", pid=process.record.pid, exit_status=process.exit_status,
                    restarts=self._restarts,
                )  # fmt: skip
                await self._pause(restarts.pause(time.monotonic() - began))
        finally:
            if self._process is not None:
                self._process.close()
                self._process = None
            self._state = ProcessState.STOPPED

    async def stop(self, *, drain: float = 0.0) -> None:
        """End Envoy: drain for at most *drain* seconds, then SIGTERM, after 5 s SIGKILL."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        if drain > 0:
            self._state = ProcessState.DRAINING
            await self._drain(process, drain)
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            process.signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.gone(), patience)
                break
        self._command.record.unlink(missing_ok=True)

    async def _pause(self, seconds: float) -> None:
        if seconds == 0:
            return
        self._state = ProcessState.WAITING
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _drain(self, process: _Process, seconds: float) -> None:
        """Let connections end: listeners close, responses carry `Connection: close`."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(AdminUnavailableError):
            await self.admin.post("drain_listeners?graceful&skip_exit")
            while time.monotonic() < deadline and await self.admin.active_connections() > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.gone(), 0.1)
                    return

    async def _adopt(self) -> _Process | None:
        """Take over the Envoy of an earlier agent if its record holds and its admin answers."""
        record = self._recorded()
        if record is None:
            return None
        try:
            process = _Process(record, adopted=True)
        except ProcessLookupError:
            return None
        if start_ticks(record.pid) != record.start_ticks:  # the id was given to somebody else
            process.close()
            return None
        try:
            state = await self.admin.state()
        except AdminUnavailableError as error:
            log.warning("envoy hangs; it is replaced", pid=record.pid, cause=str(error))
            process.signal(signal.SIGKILL)
            await process.gone()
            process.close()
            return None
        log.info("envoy adopted", pid=record.pid, envoy_state=state)
        return process

    def _recorded(self) -> ProcessRecord | None:
        try:
            text = self._command.record.read_bytes()
            record = msgspec.json.decode(text, type=ProcessRecord)
        except (OSError, msgspec.MsgspecError):
            return None
        if record.boot_id != boot_id() or start_ticks(record.pid) != record.start_ticks:
            return None
        return record

    def _spawn(self) -> _Process:
        command = self._command
        self._state = ProcessState.STARTING
        (command.folder / command.admin_socket).unlink(missing_ok=True)
        argv = command.argv()
        # Not a fork: this process has the threads of grpc.
        pid = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (
                    os.POSIX_SPAWN_OPEN,
                    1,
                    command.log,
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    0o600,
                ),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        record = ProcessRecord(pid, start_ticks(pid) or 0, boot_id(), time.time())
        log.info("envoy started", pid=pid)
        return _Process(record, adopted=False)
