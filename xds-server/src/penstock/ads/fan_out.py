"""Reports to all controllers: any of them may have to say in statuses what is in force.

An agent gets its resources from one controller. What became of them it tells every one that is
ready, over a connection of its own to each, so that whoever leads knows of all nodes, and a new
leader knows as much as the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio
import structlog

from penstock.ads.dial import FLEET_BACK_OFF, Controllers, Credentials, secure_channel
from penstock.ads.reports import Reports, send_reports
from penstock.meta.back_off import BackOff
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.meta.node_identity import CONTROLLER_NAME

LOOK_SECONDS = 2.0
"""Between two looks at which controllers there are."""
_log = structlog.get_logger(__name__)


class ReportFanOut:
    """One stream of reports to each controller, for as long as `run` runs."""

    def __init__(
        self,
        controllers: Controllers,
        credentials: Credentials,
        *,
        reports: Reports,
        clock: Clock,
        random: Callable[[], float],
        server_name: str = CONTROLLER_NAME,
        back_off: BackOff = FLEET_BACK_OFF,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Report to nobody yet.

        Args:
            controllers: asked again and again.
            credentials: of this node.
            reports: starts the reports of one stream.
            clock: for waiting.
            random: returns numbers in [0, 1), for jitter.
            server_name: what the certificate of each controller says.
            back_off: between attempts at one controller.
            look_seconds: between two looks at which controllers there are.
        """
        self._controllers = controllers
        self._credentials = credentials
        self._reports = reports
        self._clock = clock
        self._random = random
        self._server_name = server_name
        self._back_off = back_off
        self._look_seconds = look_seconds
        self._telling: dict[str, asyncio.Task[None]] = {}

    @property
    def targets(self) -> frozenset[str]:
        """Return the controllers that are reported to, or tried."""
        return frozenset(self._telling)

    async def run(self) -> None:
        """Report until cancelled."""
        try:
            while True:
                await self._look()
                await self._clock.sleep(self._look_seconds * (0.5 + self._random()))
        finally:
            await self._stop(set(self._telling))

    async def _look(self) -> None:
        """Begin with controllers that are new, end with those that are gone."""
        try:
            found = {one.target for one in await self._controllers()}
        except PenstockError as error:
            _log.warning("controllers are not known; reports go on", reason=str(error))
            return
        await self._stop(self._telling.keys() - found)
        for target in found - self._telling.keys():
            self._telling[target] = asyncio.create_task(self._tell(target))

    async def _stop(self, targets: set[str]) -> None:
        ended = [self._telling.pop(target) for target in targets]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _tell(self, target: str) -> None:
        """Report to one controller until cancelled; each stream begins with everything."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            reason = await self._session(target)
            lasted = self._clock.monotonic() - began
            failures = 1 if lasted > self._back_off.longest else failures + 1
            pause = self._back_off.pause(failures, self._random())
            _log.info(
                "reports to a controller ended",
                target=target, reason=reason, retry_in=round(pause, 2),
            )  # fmt: skip
            await self._clock.sleep(pause)

    async def _session(self, target: str) -> str:
        """Run one stream; return why it ended."""
        try:
            credentials = await self._credentials.channel()
            async with secure_channel(target, credentials, self._server_name) as channel:
                await send_reports(channel, self._reports)
        except PenstockError as error:
            return str(error)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "the server ended the stream"
