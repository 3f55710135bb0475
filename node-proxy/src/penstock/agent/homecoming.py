"""An Envoy whose main thread was left in a pod's network namespace is made to start again.

Envoy enters a pod's namespace to open a listener there. When that fails it does not leave
(Envoy 1.40): what it resolves by DNS goes out of that pod from then on, threads that it starts are
born there, and the pod's namespace does not end with the pod. In the node's own network it does
no harm: there it is left, as it may be because a port of a Gateway is somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from penstock.agent.admin import AdminUnavailableError, EnvoyAdmin
from penstock.agent.envoy_observer import envoy_pid
from penstock.meta.clock import Clock

LOOK_SECONDS = 0.2
LOOKS = 5
"""Looks in a row at which the thread is in the same other namespace; it visits them otherwise."""
REST_SECONDS = 600.0
"""Shortest time from the first end to the next, then twice as long each time: what an Envoy could
not open it may meet again."""
LONGEST_REST_SECONDS = 24 * 3600.0

log = structlog.get_logger(__name__)


class Homecoming:
    """Watches where Envoy's main thread is."""

    def __init__(
        self,
        admin: Path,
        *,
        pid: Callable[[], int | None],
        home: Callable[[], Path | None],
        host: Path | None,
        review: Callable[[], None],
        clock: Clock,
        rest: float = REST_SECONDS,
        proc: Path = Path("/proc"),
    ) -> None:
        """Watch nothing yet.

        Args:
            admin: Envoy's admin socket.
            pid: tells which process Envoy is; None if it does not run.
            home: tells the network namespace that Envoy was started in; None if that is not known.
            host: the node's own network namespace, if Envoy opens listeners there.
            review: takes the listeners away that Envoy could not open, before it starts again.
            clock: for waiting.
            rest: seconds from the first end to the next.
            proc: processes as the node sees them.
        """
        self._admin = admin
        self._pid = pid
        self._home = home
        self._host = host
        self._review = review
        self._clock = clock
        self._rest = rest
        self._proc = proc
        self._seen: tuple[int, int] | None = None
        """Process, and inode of the namespace where it should not be."""
        self._looks = 0
        self._next = float("-inf")
        """When it may be ended again."""

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            if (pid := self.astray()) is None:
                continue
            self._looks = 0  # if it stays there it is found again
            if envoy_pid(self._admin) == pid:
                await self._end(pid)

    def astray(self) -> int | None:
        """Look once; return Envoy's process when it is found elsewhere the `LOOKS`th time."""
        seen = self._elsewhere()
        self._looks = (
            self._looks + 1 if seen is not None and seen == self._seen else int(bool(seen))
        )
        self._seen = seen
        return seen[0] if seen is not None and self._looks == LOOKS else None

    def _elsewhere(self) -> tuple[int, int] | None:
        pid, home = self._pid(), self._home()
        if pid is None or home is None:
            return None
        try:
            present = (self._proc / str(pid) / "ns" / "net").stat().st_ino
            fine = [home] if self._host is None else [home, self._host]
            return None if present in [one.stat().st_ino for one in fine] else (pid, present)
        except OSError:  # it has just ended, or its pod has
            return None

    async def _end(self, pid: int) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        log.error(
            "envoy was left in another network namespace after it could not listen there; it is "
            "ended, to start again", pid=pid,
        )  # fmt: skip
        self._review()
        try:
            await EnvoyAdmin(self._admin).post("quitquitquit")
        except AdminUnavailableError as error:
            log.warning("envoy does not end", reason=str(error))
        else:
            self._next = now + self._rest
            self._rest = min(2 * self._rest, LONGEST_REST_SECONDS)
