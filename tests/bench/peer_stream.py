"""What a peer of ours sends to an Envoy that has just come, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio
import msgspec

from bench.kube_controller import PATIENCE, Sync
from bench.processes import most_resident, thread_cpu
from penstock.ads.server import SERVICE
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types


class Started(msgspec.Struct, frozen=True):
    """A process that was started."""

    pid: int
    at: float
    """Monotonic seconds."""


async def start_of(
    peer: Started,
    connect: Callable[[], grpc.aio.Channel],
    node: base_pb2.Node,
    routes_of: Callable[[list[str]], list[str]],
) -> Sync:
    """Return when the first and the last bytes came of what a node's Envoy asks for.

    Args:
        peer: the process.
        connect: makes a channel to it, which need not be there yet.
        node: who asks.
        routes_of: names of route configurations, given those of listeners.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with connect() as channel:
                    return await _everything(peer, _Stream(channel, node), routes_of)
            except grpc.aio.AioRpcError:  # it does not listen yet
                await asyncio.sleep(0.05)


async def _everything(
    peer: Started, stream: _Stream, routes_of: Callable[[list[str]], list[str]]
) -> Sync:
    clusters = await stream.ask(types.CLUSTER)
    first, cpu, memory = time.monotonic(), thread_cpu(peer.pid), most_resident(peer.pid)
    await stream.ask(types.ENDPOINTS, clusters)
    await stream.ask(types.ROUTES, routes_of(await stream.ask(types.LISTENER)))
    return Sync(
        first=first - peer.at,
        whole=time.monotonic() - peer.at,
        cpu=cpu,
        memory=memory,
        size=stream.size,
    )


class _Stream:
    """A stream of delta xDS, on which one type is asked for at a time."""

    def __init__(self, channel: grpc.aio.Channel, node: base_pb2.Node) -> None:
        self._node = node
        self.size = 0
        """Bytes that came."""
        self._call: Any = channel.stream_stream(
            f"/{SERVICE}/DeltaAggregatedResources",
            request_serializer=discovery_pb2.DeltaDiscoveryRequest.SerializeToString,
        )()

    async def ask(self, type_url: str, names: Sequence[str] = ()) -> list[str]:
        """Return the names of the resources of a type, all or those named."""
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url, resource_names_subscribe=names, node=self._node
        )
        await self._call.write(request)
        while True:
            payload = await self._call.read()
            self.size += len(payload)
            said = discovery_pb2.DeltaDiscoveryResponse.FromString(payload)
            answer = discovery_pb2.DeltaDiscoveryRequest(
                type_url=said.type_url, response_nonce=said.nonce
            )
            await self._call.write(answer)
            if said.type_url == type_url:
                return [one.name for one in said.resources]
