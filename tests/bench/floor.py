"""The least that a server can do for a change: write bytes that were there before.

It takes over a socket whose client has everything already: a delta client that comes back says
what it has, and needs no answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import grpc
import grpc.aio

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class FloorServer:
    """Writes what it is given to the one client it has."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self._context: Context | None = None
        self._acks: dict[str, asyncio.Future[float]] = {}
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen on *socket*, which must not be there."""
        handler: grpc.RpcMethodHandler[bytes, bytes]
        handler = grpc.stream_stream_rpc_method_handler(self._delta)
        methods = {"DeltaAggregatedResources": handler}
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, methods),)
        )
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0.0)

    async def push(self, nonce: str, payload: bytes) -> asyncio.Future[float]:
        """Send a serialised response; return when (monotonic seconds) it will have been acked."""
        assert self._context is not None
        acked = self._acks[nonce] = asyncio.get_running_loop().create_future()
        await self._context.write(payload)
        return acked

    async def _delta(self, requests: AsyncIterator[bytes], context: Context) -> None:
        self._context = context
        async for payload in requests:
            self._take(payload, time.monotonic())

    def _take(self, payload: bytes, now: float) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest.FromString(payload)
        self.connected.set()
        acked = self._acks.pop(request.response_nonce, None)
        if acked is not None:
            assert not request.HasField("error_detail"), request.error_detail.message
            acked.set_result(now)
