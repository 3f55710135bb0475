"""One container of a pod: start, probes, restart with back-off, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from penstock.core.pods import Container, ExecAction, Probe
from penstock.lab import cgroups, process
from penstock.lab.child import Child
from penstock.lab.environment import MissingReferenceError
from penstock.lab.images import UnknownImageError
from penstock.lab.launch import Spec
from penstock.lab.probes import Connect, Prober, Verdict, watch
from penstock.lab.process import StartError
from penstock.meta.back_off import Restarts
from penstock.meta.clock import Clock

MakeSpec = Callable[[Container], Awaitable[Spec]]
_BACKOFF_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
"""Pause before the first, second, ... restart."""
_STABLE_SECONDS = 60.0
"""A container that ran for so long starts with the shortest pause again."""


class ContainerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a container needs from its pod and its node."""

    address: str
    cgroup: Path
    log: Path
    make_spec: MakeSpec
    """Raises MissingReferenceError or UnknownImageError."""
    connect: Connect
    clock: Clock
    changed: Callable[[], None]
    """Called after each change of the state below."""


class ContainerRunner:
    """Runs one container as its restart policy says."""

    def __init__(self, container: Container, policy: str, context: ContainerContext) -> None:
        """Prepare to run *container* with restart policy Always, OnFailure or Never."""
        self.container = container
        self._policy = policy
        self._context = context
        self._child: Child | None = None
        self._started = False
        self._ready = False
        self._stopping = False
        self._killed_by = ""
        self.restarts = 0
        self.exit_code: int | None = None
        """Of the last run; None before the first end."""
        self.reason = "ContainerCreating"
        self.message = ""

    @property
    def pid(self) -> int:
        """Return the process id of the command, 0 if it does not run."""
        return self._child.pid if self._child is not None and self._child.running else 0

    @property
    def running(self) -> bool:
        """Return whether the command runs."""
        return self.pid != 0

    @property
    def started(self) -> bool:
        """Return whether the command runs and its startup probe, if any, succeeded."""
        return self.running and self._started

    @property
    def ready(self) -> bool:
        """Return whether the container counts as ready."""
        return self.started and self._ready

    async def run(self) -> None:
        """Run the container until its restart policy is satisfied or it is cancelled."""
        restarts = Restarts(_BACKOFF_SECONDS, _STABLE_SECONDS)
        while True:
            began = self._context.clock.monotonic()
            code = await self._run_once()
            if self._stopping or self._is_done(code):
                return
            pause = restarts.pause(self._context.clock.monotonic() - began)
            if code is not None and pause:
                self._tell("CrashLoopBackOff", f"{self.message}; next start in {pause:g} s")
            await self._context.clock.sleep(pause or (0 if code is not None else 1.0))
            self.restarts += code is not None

    async def stop(self, grace_seconds: float) -> None:
        """End the command: SIGTERM, then SIGKILL to all that is left after *grace_seconds*."""
        self._stopping = True
        child = self._child
        if child is not None and child.running:
            child.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await child.wait()
        cgroups.kill(self._context.cgroup)
        if child is not None:
            await child.wait()

    def _is_done(self, code: int | None) -> bool:
        """Return whether the policy wants no restart; a command that never started is retried."""
        if code is None:
            return False
        return self._policy == "Never" or (self._policy == "OnFailure" and code == 0)

    async def _run_once(self) -> int | None:
        """Run the command once; return its exit status, None if it could not be started."""
        context = self._context
        try:
            spec = await context.make_spec(self.container)
            self._child = await process.start(spec, context.log)
        except (MissingReferenceError, UnknownImageError, StartError, OSError) as error:
            self._tell(_start_reason(error), str(error))
            return None
        if self._stopping:
            cgroups.kill(context.cgroup)
        self._killed_by = ""
        self._started = self.container.startup_probe is None
        self._ready = self.container.readiness_probe is None
        self._tell("" if self._ready and self._started else "ContainersNotReady", "")
        probes = asyncio.create_task(self._watch_probes())
        try:
            code = await self._child.wait()
        finally:
            probes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probes
            cgroups.kill(context.cgroup)
        self.exit_code = code
        self._started = self._ready = False
        because = f", {self._killed_by}" if self._killed_by else ""
        self._tell("Completed" if code == 0 else "Error", f"ended with {code}{because}")
        return code

    async def _watch_probes(self) -> None:
        """Ask the startup probe until it succeeds, then readiness and liveness side by side."""
        if self.container.startup_probe is not None:
            succeeded = asyncio.Event()

            def tell_startup(verdict: Verdict) -> None:
                if verdict.ok:
                    succeeded.set()
                else:
                    self._kill("startup", verdict)

            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._watch(self.container.startup_probe, tell_startup))
                await succeeded.wait()
                asking.cancel()
            self._started = True
            self._tell("" if self._ready else "ContainersNotReady", "")
        async with asyncio.TaskGroup() as group:
            if self.container.readiness_probe is not None:
                group.create_task(self._watch(self.container.readiness_probe, self._tell_readiness))
            if self.container.liveness_probe is not None:
                group.create_task(
                    self._watch(self.container.liveness_probe, self._tell_liveness, eager=False)
                )

    async def _watch(
        self, probe: Probe, tell: Callable[[Verdict], None], *, eager: bool = True
    ) -> None:
        prober = Prober(
            address=self._context.address,
            container=self.container,
            connect=self._context.connect,
            run_command=self._run_command,
        )
        await watch(probe, prober, self._context.clock, tell, eager=eager)

    def _tell_readiness(self, verdict: Verdict) -> None:
        self._ready = verdict.ok
        message = "" if verdict.ok else f"readiness probe: {verdict.message}"
        self._tell("" if verdict.ok else "ContainersNotReady", message)

    def _tell_liveness(self, verdict: Verdict) -> None:
        if not verdict.ok:
            self._kill("liveness", verdict)

    def _kill(self, probe: str, verdict: Verdict) -> None:
        self._killed_by = f"killed because of its {probe} probe: {verdict.message}"
        cgroups.kill(self._context.cgroup)

    async def _run_command(self, action: ExecAction) -> int:
        """Run a probe's command beside the container's; its output goes to the log."""
        spec = await self._context.make_spec(self.container)
        joined: Spec = {**spec, "argv": list(action.command), "join": self.pid, "mounts": []}
        child = await process.start(joined, self._context.log)
        try:
            return await child.wait()
        finally:
            child.send_signal(signal.SIGKILL)

    def _tell(self, reason: str, message: str) -> None:
        self.reason, self.message = reason, message
        self._context.changed()


def _start_reason(error: Exception) -> str:
    """Return the reason that kubelet would give."""
    match error:
        case MissingReferenceError():
            return "CreateContainerConfigError"
        case UnknownImageError():
            return "ErrImageNeverPull"
        case _:
            return "RunContainerError"
