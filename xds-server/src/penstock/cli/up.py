"""`penstock up`: the lab, the controller and the agent, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from penstock.cli.down import remove_everything
from penstock.cli.mode import Mode, mode_here
from penstock.cli.processes import Processes, write_processes
from penstock.cli.publish import published_offset
from penstock.cli.ready import announce, wait_until_ready
from penstock.cli.report import Report
from penstock.cli.watch import Watcher
from penstock.lab import cgroups, syscalls, teardown
from penstock.lab.agent_client import HttpAgentClient
from penstock.lab.cluster import NODE_NAME
from penstock.lab.runtime import Lab, Progress
from penstock.lab.supervise import ChildSpec, Supervisor
from penstock.meta.errors import PenstockError
from penstock.meta.paths import HOST_NETNS, RunPaths
from penstock.runtime.clock import SystemClock
from penstock.runtime.processes import own_process, process_of

LONGEST_RUN_DIR = 80
"""The path of a unix socket has at most 107 bytes."""
_STOP_SECONDS = 8.0


def up(folder: Path, paths: RunPaths, *, only_gateways: bool) -> int:
    """Run *folder* until SIGINT or SIGTERM and return the exit status.

    Raises:
        PenstockError: it cannot start; nothing is left behind.
    """
    if not folder.is_dir():
        raise PenstockError(f"{folder} is no folder; give the folder with your YAML")
    if len(str(paths.root).encode()) > LONGEST_RUN_DIR:
        raise PenstockError(
            f"{paths.root} is longer than {LONGEST_RUN_DIR} bytes, too long for sockets in it; "
            "use a shorter --run-dir"
        )
    teardown.check_free(paths)
    mode = mode_here(only_gateways=only_gateways)
    instance = Instance(folder.resolve(), paths, mode, Report(), published_offset(folder))
    return asyncio.run(_run(instance))


async def _run(instance: Instance) -> int:
    """Run until a signal, then clean up; a second signal skips all grace."""
    stop = asyncio.Event()
    hurry = asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    work = asyncio.create_task(instance.run())
    try:
        await _first(work, stop.wait())
        if not work.done():
            instance.report.notes("stopping", "once more Ctrl-C skips all grace")
    finally:
        work.cancel()
        ended = await asyncio.gather(work, return_exceptions=True)
        if isinstance(ended[0], teardown.FolderInUseError):  # what is there is another's
            raise ended[0]
        cleaning = asyncio.create_task(instance.clean())
        await _first(cleaning, hurry.wait())
        if not cleaning.done():
            cleaning.cancel()
        await asyncio.gather(cleaning, return_exceptions=True)
        await asyncio.to_thread(remove_everything, instance.paths)
    if isinstance(ended[0], Exception):
        raise ended[0]
    instance.report.did("gone", "nothing is left behind")
    return 0


async def _until_failed(supervised: asyncio.Task[None]) -> None:
    """Raise what *supervised* raises; being cancelled does not end it."""
    await asyncio.shield(supervised)


async def _first(task: asyncio.Task[None], other: Awaitable[object]) -> None:
    """Return when either is done."""
    waiting = asyncio.ensure_future(other)
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


class Instance:
    """Everything that `up` starts."""

    def __init__(
        self, folder: Path, paths: RunPaths, mode: Mode, report: Report, published_offset: int
    ) -> None:
        """Start nothing yet."""
        self._published_offset = published_offset
        self.folder, self.paths, self.mode, self.report = folder, paths, mode, report
        self._clock = SystemClock()
        self._lab: Lab | None = None
        self._supervised: list[asyncio.Task[None]] = []
        self._registering: asyncio.Task[None] | None = None
        self._ready = False
        self._controller = self._supervisor("controller", self._controller_options())
        self._agent = self._supervisor("agent", self._agent_options())

    async def run(self) -> None:
        """Start everything, tell when it is ready, go on until cancelled.

        Raises:
            PenstockError: something cannot start.
        """
        if not self.mode.full:
            self.report.warns("Gateways only", self.mode.reason)
            self.report.notes("left out", "no pod is run, no policy between pods is enforced")
        await self._make_node()
        self._supervised = [
            asyncio.create_task(part.run()) for part in (self._controller, self._agent)
        ]
        watcher = Watcher(self.folder, self.paths, self.report, self._clock)
        async with asyncio.TaskGroup() as tasks:
            for part in self._supervised:
                tasks.create_task(_until_failed(part))
            if self._lab is not None:
                tasks.create_task(self._lab.follow([self.folder]))
            tasks.create_task(watcher.run())
            await wait_until_ready(self.paths, self._lab, self.report)
            announce(self.paths, self.folder, self.mode, self.report)
            self._ready = True

    async def clean(self) -> None:
        """End everything with grace, the pods while the agent still lives."""
        self._ready = False
        lab = self._lab
        parts: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            *([("pods", lab.end_pods)] if lab is not None else []),
            ("controller", self._controller.stop),
            ("agent", self._agent.stop),
            *([("lab", lab.stop)] if lab is not None else []),
        ]
        for name, stop in parts:
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await stop()
            except (PenstockError, OSError, TimeoutError) as error:
                self.report.warns(f"{name} did not end by itself", str(error))
        for task in self._supervised:
            task.cancel()
        await asyncio.gather(*self._supervised, return_exceptions=True)

    async def _make_node(self) -> None:
        """Take the run folder; in full mode make the node's network namespace and cgroup."""
        if not self.mode.full:
            await asyncio.to_thread(teardown.claim, self.paths)
            self.paths.objects.mkdir(mode=0o700, exist_ok=True)
            self._write_processes()
            return
        lab = Lab(
            self.paths, HttpAgentClient(self.paths), self._clock, on_progress=self._on_progress
        )
        await lab.start()
        self._lab = lab
        self._write_processes()
        host = self.paths.netns / HOST_NETNS
        host.touch(mode=0o600)
        syscalls.mount("/proc/self/ns/net", str(host), flags=syscalls.MS_BIND)
        self.report.did("node", f"network namespace, cgroup and cluster DNS in {self.paths.root}")

    def _supervisor(self, name: str, options: list[str]) -> Supervisor:
        def on_start(restarts: int) -> None:
            self._write_processes()
            if restarts:
                self.report.did(f"{name} runs again", f"start number {restarts + 1}")
                if name == "agent" and self._lab is not None:
                    self._registering = asyncio.create_task(self._lab.agent_restarted())

        def on_end(code: int) -> None:
            log = self.paths.logs / f"{name}.log"
            self.report.warns(f"{name} ended", f"exit status {code}; it is started again; {log}")

        spec = ChildSpec(
            name=name,
            argv=[sys.executable, "-m", "penstock.cli", name, *options],
            log=self.paths.logs / f"{name}.log",
            cgroup=cgroups.instance_root(self.paths.root) / "system" if self.mode.full else None,
            grace_seconds=3.0,
        )
        return Supervisor(spec, self._clock, on_start=on_start, on_end=on_end)

    def _controller_options(self) -> list[str]:
        folders = (self.folder, self.paths.objects)
        sources = [word for one in folders for word in ("--source", str(one))]
        shift = ["--published-offset", str(self._published_offset)]
        return [*sources, *shift, *self._common_options()]

    def _agent_options(self) -> list[str]:
        ends = [] if self.mode.full else ["--stop-envoy"]
        return ["--node", NODE_NAME, *ends, *self._common_options()]

    def _common_options(self) -> list[str]:
        limits = [] if self.mode.full else ["--only-gateways"]
        return ["--run-dir", str(self.paths.root), *limits]

    def _write_processes(self) -> None:
        with contextlib.suppress(OSError):
            write_processes(
                self.paths,
                Processes(
                    up=own_process(),
                    controller=process_of(self._controller.pid),
                    agent=process_of(self._agent.pid),
                    mode=self.mode.name,
                    folder=str(self.folder),
                ),
            )

    def _on_progress(self, progress: Progress) -> None:
        """Tell what happens to pods."""
        match progress.kind:
            case "pod-ready":
                self.report.did("pod ready", progress.pod)
            case "pod-not-ready":
                self.report.warns("pod not ready", f"{progress.pod}  {progress.message}")
            case "problem":
                self.report.fails("problem", f"{progress.pod}  {progress.message}".strip())
            case "agent" if self._ready:
                self.report.notes("agent", progress.message)
            case "pod-gone" if self._ready:
                self.report.notes("pod gone", progress.pod)
            case "agent" | "pod-gone" | "pod-starting" | "pod-stopping":
                pass
