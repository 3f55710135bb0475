"""AggregatedDiscoveryService over gRPC, delta only, on a unix socket.

The controller serves agents with it and an agent serves its Envoy. Requests are decoded here;
responses are bytes from the start, framed once for all streams.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from penstock.ads.connection import Connection, Hooks, NoHooks
from penstock.ads.store import SnapshotSource
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.delta import PATIENCE, DeltaStream

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
REPORT_SERVICE = "penstock.node.v1.NodeService"
_MESSAGE_BYTES = 64 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # Envoy pings every 30 s
    ("grpc.so_reuseport", 0),
)
_log = structlog.get_logger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = grpc.GenericRpcHandler
OnReport = Callable[[str, node_pb2.NodeReport, bool], None]
"""Takes (node, report, full): a full report replaces all that was known of the node."""


class AdsError(PenstockError):
    """The server cannot listen."""


class AdsServer:
    """One gRPC server on one socket."""

    def __init__(
        self,
        source: SnapshotSource,
        clock: Clock,
        *,
        hooks: Hooks | None = None,
        on_report: OnReport | None = None,
        extra_handlers: Sequence[Handler] = (),
        patience: float = PATIENCE,
    ) -> None:
        """Serve the snapshots of *source*; *patience* is DeltaStream's.

        With *on_report* it also takes what agents say of their Envoys (NodeService.Report).
        *extra_handlers* are served on the same socket.
        """
        self._source = source
        self._clock = clock
        self._hooks: Hooks = NoHooks() if hooks is None else hooks
        self._on_report = on_report
        self._extra = tuple(extra_handlers)
        self._patience = patience
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen on *socket*, in a folder that only the owner may enter.

        Raises:
            AdsError: the folder or the socket cannot be made.
        """
        _make_room(socket)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((*self._handlers(), *self._extra))
        previous = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{socket}")
            await server.start()
        except RuntimeError as error:
            raise AdsError(
                f"{socket}: cannot listen: {error}; is the path longer than 107 bytes?"
            ) from error
        finally:
            os.umask(previous)
        self._server = server

    async def stop(self, grace: float = 0.0) -> None:
        """End all streams; clients keep what they have."""
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    def _handlers(self) -> list[Handler]:
        ads = grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "DeltaAggregatedResources": _handler(self._delta),
                "StreamAggregatedResources": _handler(_state_of_the_world),
            },
        )
        if self._on_report is None:
            return [ads]
        report = grpc.stream_unary_rpc_method_handler(
            self._report,
            request_deserializer=node_pb2.NodeReport.FromString,
            response_serializer=node_pb2.ReportSummary.SerializeToString,
        )
        return [ads, grpc.method_handlers_generic_handler(REPORT_SERVICE, {"Report": report})]

    async def _delta(self, requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            payload = await anext(requests, None)
            if payload is None:
                return
            first = discovery_pb2.DeltaDiscoveryRequest.FromString(payload)
            if not first.node.id:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "the first request has no node.id; set `node: {id: …}` in Envoy's bootstrap",
                )
            await self._serve(first, requests, context)
        except DecodeError as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"not a DeltaDiscoveryRequest: {error}"
            )

    async def _serve(
        self,
        first: discovery_pb2.DeltaDiscoveryRequest,
        requests: AsyncIterator[bytes],
        context: Context,
    ) -> None:
        node = first.node.id
        snapshot = await self._source.snapshot_for(node)
        stream = DeltaStream(snapshot, patience=self._patience)
        connection = Connection(node, stream, self._clock, self._hooks)
        unsubscribe = self._source.subscribe(node, connection.changed)
        self._hooks.on_connect(node, stream)
        _log.info("client connected", node=node)
        try:
            await connection.serve(first, requests, context.write)
        finally:
            unsubscribe()
            self._hooks.on_disconnect(node, stream)
            _log.info("client gone", node=node)

    async def _report(
        self, requests: AsyncIterator[node_pb2.NodeReport], _context: object
    ) -> node_pb2.ReportSummary:
        full = True
        async for report in requests:
            if self._on_report is not None:
                self._on_report(report.node, report, full)
            full = False
        return node_pb2.ReportSummary()


def _make_room(socket: Path) -> None:
    try:
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        socket.parent.chmod(0o700)
        socket.unlink(missing_ok=True)
    except OSError as error:
        raise AdsError(f"{socket}: cannot make the socket's folder: {error}") from error


def _handler(behaviour: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Return the handler of a stream of requests and responses that stay bytes."""
    return grpc.stream_stream_rpc_method_handler(behaviour)


async def _state_of_the_world(_requests: object, context: Context) -> None:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        "only delta xDS is served; set `api_type: DELTA_GRPC` in ads_config",
    )
