"""AggregatedDiscoveryService over gRPC, delta only, on a unix socket or behind mutual TLS.

The controller serves agents with it and an agent serves its Envoy. Requests are decoded here;
responses are bytes from the start, framed once for all streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOL_SOCKET
from socket import socket as new_socket
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from penstock.ads.connection import Connection, Hooks, NoHooks, Requests
from penstock.ads.incoming import Incoming
from penstock.ads.peers import Context, Owner, Peers, Refused
from penstock.ads.store import SnapshotSource
from penstock.meta.clock import Clock
from penstock.meta.errors import PenstockError
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.delta import PATIENCE, DeltaStream
from penstock.xds.snapshot import Snapshot
from penstock.xds.withdrawals import StandIn

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
REPORT_SERVICE = "penstock.node.v1.NodeService"
FIRST_AT_ONCE = 16
"""Streams that get their first snapshot together; more wait for their turn."""
FIRST_SECONDS = 15.0
"""How long a first snapshot may hold up others."""
SYNC_SECONDS = 10.0
"""How long a remote client waits for a server that does not know everything yet."""
_MESSAGE_BYTES = 64 << 20
QUEUE_SECONDS = 600
"""How long a client may wait until its stream is taken: gRPC would refuse it after 30 s, to come
again with all that it has, when very many come at once."""
STOP_SECONDS = 5.0
"""How long an end is waited for beyond the grace."""
_ENDED = "the certificate has ended; come with a new one"
RETIRE_SECONDS = 24 * 3600.0
"""How long streams go on that began before a renewal; by then their certificates have ended."""
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.server_max_unrequested_time_in_server", QUEUE_SECONDS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # Envoy pings every 30 s
)
_log = structlog.get_logger(__name__)

Handler = grpc.GenericRpcHandler
OnReport = Callable[[str, node_pb2.NodeReport, bool], None]
"""Takes (node, report, full): a full report replaces all that was known of the node."""
OnSilence = Callable[[str], None]
"""Takes a node of which a stream of reports has ended."""


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
        on_silence: OnSilence = lambda _: None,
        extra_handlers: Sequence[Handler] = (),
        patience: float = PATIENCE,
        peers: Peers | None = None,
        sync_seconds: float | None = None,
        stand_in: StandIn | None = None,
    ) -> None:
        """Serve the snapshots of *source*; *patience* and *stand_in* are DeltaStream's.

        With *on_report* it also takes what agents say of their Envoys (NodeService.Report).
        *extra_handlers* are served on the same socket. *peers* says who may speak for which node;
        without it, whoever can open the socket. *sync_seconds* is how long a client waits for a
        snapshot before it is told to look elsewhere; None is for ever.
        """
        self._source = source
        self._clock = clock
        self._hooks: Hooks = NoHooks() if hooks is None else hooks
        self._on_report = on_report
        self._on_silence = on_silence
        self._extra = tuple(extra_handlers)
        self._patience = patience
        self._peers: Peers = Owner() if peers is None else peers
        self._sync_seconds = sync_seconds
        self._stand_in = stand_in
        self._first_turns = asyncio.Semaphore(FIRST_AT_ONCE)
        self._server: grpc.aio.Server | None = None
        self._retired: dict[grpc.aio.Server, asyncio.Task[None]] = {}

    async def start(self, socket: Path) -> None:
        """Listen on *socket*, in a folder that only the owner may enter.

        Raises:
            AdsError: the folder or the socket cannot be made.
        """
        _make_room(socket)
        server = self._new()
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

    async def start_tls(self, address: str, credentials: grpc.ServerCredentials) -> None:
        """Listen on *address*, as "0.0.0.0:15012".

        Called again, it renews: new connections get the new *credentials*, old ones go on.

        Raises:
            AdsError: the address cannot be used.
        """
        if isinstance(self._peers, Owner):
            raise TypeError("a server on the network needs to know its peers")
        if self._server is None:
            _must_be_free(address)
        server = self._new(reuse_port=True)
        try:
            server.add_secure_port(address, credentials)
            await server.start()
        except RuntimeError as error:
            raise AdsError(f"cannot listen on {address}: {error}; is the port taken?") from error
        old, self._server = self._server, server
        if old is not None:
            retiring = asyncio.create_task(old.stop(RETIRE_SECONDS))
            self._retired[old] = retiring
            retiring.add_done_callback(lambda _: self._retired.pop(old, None))

    async def stop(self, grace: float = 0.0) -> None:
        """Take no more streams, and end all after *grace* seconds; clients keep what they have.

        Clients are told at once (GOAWAY) that the connection takes no more streams.
        """
        retired = [asyncio.create_task(server.stop(grace)) for server in self._retired]
        if self._server is not None:
            # Not in a task, which would hold on to it: with its last holder goes the socket's file,
            # and by then another server may have made a new one there.
            with contextlib.suppress(TimeoutError):  # seen once: gRPC never said that it is done
                async with asyncio.timeout(grace + STOP_SECONDS):
                    await self._server.stop(grace)
            self._server = None
        await asyncio.gather(*retired)

    def _new(self, *, reuse_port: bool = False) -> grpc.aio.Server:
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(reuse_port))))
        server.add_generic_rpc_handlers((*self._handlers(), *self._extra))
        return server

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
        report: grpc.RpcMethodHandler[bytes, bytes]
        report = grpc.stream_unary_rpc_method_handler(self._report)
        return [ads, grpc.method_handlers_generic_handler(REPORT_SERVICE, {"Report": report})]

    async def _delta(self, _: object, context: Context) -> None:
        requests = Incoming(context, discovery_pb2.DeltaDiscoveryRequest.FromString)
        try:
            node = _node_of(await requests.peek())
            if node is None:
                return
            if not node:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "the first request has no node.id; set `node: {id: …}` in Envoy's bootstrap",
                )
            await self._serve(node, requests, context)
        except DecodeError as error:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"not a DeltaDiscoveryRequest: {error}"
            )

    async def _serve(self, node: str, requests: Requests, context: Context) -> None:
        left = await self._admit(context, node)
        snapshot = await self._snapshot(node, context)
        try:
            await self._first_turns.acquire()
        except asyncio.CancelledError:
            self._source.forgo(node)
            raise
        stream = DeltaStream(snapshot, patience=self._patience, stand_in=self._stand_in)
        connection = Connection(node, stream, self._clock, self._hooks)
        turn = asyncio.create_task(_first_turn(connection))
        turn.add_done_callback(lambda _: self._first_turns.release())
        unsubscribe = self._source.subscribe(node, connection.changed)
        self._hooks.on_connect(node, stream)
        _log.info("client connected", node=node)
        try:
            async with asyncio.timeout(left):
                await connection.serve(requests, context.write)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _ENDED)
        finally:
            turn.cancel()
            unsubscribe()
            self._hooks.on_disconnect(node, stream)
            _log.info("client gone", node=node)

    async def _admit(self, context: Context, node: str) -> float | None:
        """Return how many seconds the peer may speak for *node*, None for ever; or refuse it."""
        verdict = self._peers.judge(context, node)
        if isinstance(verdict, Refused):
            _log.warning("refused", node=node, peer=context.peer(), reason=verdict.reason)
            await context.abort(verdict.code, verdict.reason)
            raise PermissionError(verdict.reason)  # not reached: abort raises
        return None if math.isinf(verdict.until) else verdict.until - self._clock.now()

    async def _snapshot(self, node: str, context: Context) -> Snapshot:
        """Return the complete snapshot of *node*, or tell the client to look elsewhere."""
        try:
            async with asyncio.timeout(self._sync_seconds):
                return await self._source.snapshot_for(node)
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "this controller does not know everything yet"
            )
            raise

    async def _report(self, _: object, context: Context) -> bytes:
        reports = Incoming(context, node_pb2.NodeReport.FromString)
        try:
            node = _reporter(await reports.peek())
            if node is not None:
                await self._take_reports(node, reports, context)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a NodeReport: {error}")
        return node_pb2.ReportSummary().SerializeToString()

    async def _take_reports(
        self, node: str, reports: Incoming[node_pb2.NodeReport], context: Context
    ) -> None:
        left = await self._admit(context, node)
        try:
            async with asyncio.timeout(left):
                self._take_report(node, await reports.next(), full=True)
                while self._take_report(node, await reports.next(), full=False):
                    pass
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, _ENDED)
        finally:
            self._on_silence(node)

    def _take_report(self, node: str, report: node_pb2.NodeReport | None, *, full: bool) -> bool:
        """Take a report; return False if there is none any more."""
        if report is None or self._on_report is None:
            return False
        self._on_report(node, report, full)
        return True


def _node_of(request: discovery_pb2.DeltaDiscoveryRequest | None) -> str | None:
    return None if request is None else request.node.id


def _reporter(report: node_pb2.NodeReport | None) -> str | None:
    return None if report is None else report.node


async def _first_turn(connection: Connection) -> None:
    """Return when a client has its first snapshot, or takes too long about it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_SECONDS):
            await connection.settled.wait()


def _must_be_free(address: str) -> None:
    """Take a port only if nobody else has it, though ours may be bound twice while we renew.

    Raises:
        AdsError: it is taken, or is none of this machine.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = AF_INET6 if ":" in host else AF_INET
    with new_socket(family) as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except (OSError, ValueError) as error:
            raise AdsError(f"cannot listen on {address}: {error}") from error


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
