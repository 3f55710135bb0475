"""Keep child processes running: the controller and the agent below `penstock up`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from penstock.lab import cgroups
from penstock.lab.child import Child, start_child
from penstock.lab.logs import rotate
from penstock.meta.back_off import Restarts
from penstock.meta.clock import Clock

_BACKOFF_SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STABLE_SECONDS = 10.0


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process that shall always run."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    """None inherits."""
    cwd: Path | None = None
    cgroup: Path | None = None
    """Made if it is missing; None stays in the parent's. Teardown finds the process there."""
    grace_seconds: float = 10.0
    """Between SIGTERM and SIGKILL."""


class Supervisor:
    """Starts one process, and again whenever it ends, until `stop`."""

    def __init__(
        self,
        spec: ChildSpec,
        clock: Clock,
        *,
        on_start: Callable[[int], None] = lambda _: None,
        on_end: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            spec: what to run.
            clock: paces restarts.
            on_start: gets the number of restarts so far, after each start.
            on_end: gets the exit status after each end that `stop` did not ask for.
        """
        self.spec = spec
        self._clock = clock
        self._on_start = on_start
        self._on_end = on_end
        self._child: Child | None = None
        self._stopping = False
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Return the process id, 0 between two runs."""
        return self._child.pid if self._child is not None and self._child.running else 0

    async def run(self) -> None:
        """Keep the process running until `stop` or cancellation, which kills it.

        Raises:
            OSError: the program cannot be started at all.
        """
        restarts = Restarts(_BACKOFF_SECONDS, _STABLE_SECONDS)
        while True:
            began = self._clock.monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            self._on_end(code)
            await self._clock.sleep(restarts.pause(self._clock.monotonic() - began))
            self.restarts += 1

    async def stop(self) -> None:
        """End the process with SIGTERM, after its grace with SIGKILL; it is not started again."""
        self._stopping = True
        child = self._child
        if child is None:
            return
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.spec.grace_seconds):
                await child.wait()
        child.send_signal(signal.SIGKILL)
        await child.wait()

    async def _run_once(self) -> int:
        spec = self.spec
        rotate(spec.log)
        child = start_child(spec.argv, log=spec.log, env=spec.env, cwd=spec.cwd)
        self._child = child
        try:
            if spec.cgroup is not None:
                spec.cgroup.mkdir(parents=True, exist_ok=True)
                cgroups.move(child.pid, spec.cgroup)
            self._on_start(self.restarts)
            return await child.wait()
        except BaseException:
            child.send_signal(signal.SIGKILL)
            await child.wait()
            raise
