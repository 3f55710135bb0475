"""The agent's side of the controller's ADS: one delta stream for all types, and the reports.

Theory of operation. A session asks for every type with "*" and says which versions the store has;
what comes is given to `apply`, response by response, and answered: with the errors it returns, or
an ACK. When the session breaks, nothing is taken back: the store keeps the last good state, and the
next session, after a random back-off, asks for the difference, of whomever the dialer finds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import grpc
import grpc.aio
import structlog

from penstock.ads.dial import Dialer, LocalDialer
from penstock.ads.reports import Reports, send_reports
from penstock.ads.server import SERVICE
from penstock.meta.back_off import BackOff
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, read_resource

_INTERNAL = 13
_log = structlog.get_logger(__name__)

Apply = Callable[[str, Sequence[Resource], Sequence[str]], Awaitable[Sequence[str]]]
"""Takes (type URL, resources to add or replace, names to remove) and stores them; returns errors.

The first response of each type comes even if it is empty, that of `types.WHOLE` when all that there
is of the others has come: from then on the store is in step.
"""
Versions = Callable[[str], Mapping[str, str]]
"""Returns name → version of what the store has of a type."""


DEFAULT_BACK_OFF = BackOff()


class AdsClient:
    """Keeps a store in step with a server, for as long as `run` runs."""

    def __init__(
        self,
        target: str | Dialer,
        node: str,
        *,
        apply: Apply,
        versions: Versions,
        clock: Clock,
        random: Callable[[], float],
        reports: Reports | None = None,
        back_off: BackOff = DEFAULT_BACK_OFF,
    ) -> None:
        """Be *node* at *target*: "unix:/run/penstock/controller-ads.sock", or what a dialer finds.

        *random* returns numbers in [0, 1); *reports* starts the reports of one session, to the
        same server; where there are several, a ReportFanOut tells them all.
        """
        self._dialer: Dialer = LocalDialer(target) if isinstance(target, str) else target
        self._target = ""
        self._node = node
        self._apply = apply
        self._versions = versions
        self._clock = clock
        self._random = random
        self._reports = reports
        self._back_off = back_off
        self._connected = False
        self._received = False

    @property
    def target(self) -> str:
        """Return the server of the present or last session, "" before the first."""
        return self._target

    @property
    def connected(self) -> bool:
        """Return whether the server has answered on the present session."""
        return self._connected

    async def run(self) -> None:
        """Run sessions until cancelled."""
        failures = 0
        while True:
            self._received = False
            reason = await self._session()
            failures = 1 if self._received else failures + 1
            pause = self._back_off.pause(failures, self._random())
            _log.warning(
                "no connection to the controller; the last good state stays",
                target=self._target, reason=reason, retry_in=round(pause, 2),
            )  # fmt: skip
            await self._clock.sleep(pause)

    async def _session(self) -> str:
        """Run one session; return why it ended."""
        try:
            dialed = await self._dialer.dial()
        except PenstockError as error:
            return str(error)
        self._target = dialed.target
        try:
            async with dialed.channel as channel:
                reporting = asyncio.create_task(self._send_reports(channel))
                try:
                    await self._discover(channel)
                finally:
                    self._connected = False
                    reporting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await reporting
                    self._dialer.ended(dialed.target, answered=self._received)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except asyncio.InvalidStateError:  # written to after the server had ended it
            pass
        return "the server ended the stream"

    async def _discover(self, channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream(
            f"/{SERVICE}/DeltaAggregatedResources",
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DeltaDiscoveryResponse.FromString,
        )(None)
        for type_url in (*types.SENDING_ORDER, types.WHOLE):
            await call.write(self._first_request(type_url))
        async for response in call:
            self._connected = self._received = True
            await call.write(await self._answer(response))

    def _first_request(self, type_url: str) -> discovery_pb2.DeltaDiscoveryRequest:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=["*"],
            initial_resource_versions=self._versions(type_url),
        )
        request.node.id = self._node
        return request

    async def _answer(
        self, response: discovery_pb2.DeltaDiscoveryResponse
    ) -> discovery_pb2.DeltaDiscoveryRequest:
        resources = [read_resource(resource) for resource in response.resources]
        errors = await self._apply(response.type_url, resources, list(response.removed_resources))
        answer = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if errors:
            answer.error_detail.code = _INTERNAL
            answer.error_detail.message = "; ".join(errors)
        return answer

    async def _send_reports(self, channel: grpc.aio.Channel) -> None:
        """Send reports until cancelled; if the call alone breaks, begin again with everything."""
        if self._reports is None:
            return
        while True:
            try:
                await send_reports(channel, self._reports)
            except grpc.aio.AioRpcError as error:
                _log.warning("reports to the controller ended", reason=error.details())
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return
            await self._clock.sleep(self._back_off.longest * self._random())
