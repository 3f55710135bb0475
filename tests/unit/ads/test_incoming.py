"""What a client has sent is held by nobody once it is read: it may name all that it has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from penstock.ads.server import REPORT_SERVICE, SERVICE, AdsServer
from penstock.ads.store import SnapshotStore
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from support.real_envoy import eventually

ONLY_THE_LIST = 2
"""References that `sys.getrefcount` counts of what is in one list: that, and its argument."""


@contextlib.asynccontextmanager
async def channel_to(server: AdsServer, folder: Path) -> AsyncGenerator[grpc.aio.Channel]:
    """Run *server* at a socket in *folder*."""
    socket = folder / "ads" / "socket"
    await server.start(socket)
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            yield channel
    finally:
        await server.stop()


def held(message: list[Any]) -> bool:
    """Return whether somebody else holds the only message in a list."""
    return sys.getrefcount(message[0]) > ONLY_THE_LIST


def _pass(node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
    """Take a report."""


async def test_a_report_is_not_held_while_its_stream_goes_on(tmp_path: Path) -> None:
    taken: list[node_pb2.NodeReport] = []

    def take(node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - the hook's signature
        del node, full
        taken.append(report)

    async with channel_to(
        AdsServer(SnapshotStore(), SystemClock(), on_report=take), tmp_path
    ) as to:
        call: Any = to.stream_unary(f"/{REPORT_SERVICE}/Report")()
        for count in (1, 2):
            await call.write(node_pb2.NodeReport(node="n1").SerializeToString())
            await eventually(lambda: len(taken) == count)  # noqa: B023 - called at once
            last = [taken[-1]]
            taken[-1:] = [node_pb2.NodeReport()]
            await eventually(lambda: not held(last))  # noqa: B023 - called at once
        await call.done_writing()
        assert await call == b""


async def test_a_request_is_not_held_while_its_stream_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[discovery_pb2.DeltaDiscoveryRequest] = []
    original = DeltaStream.on_request

    def take(self: DeltaStream, request: discovery_pb2.DeltaDiscoveryRequest, now: float) -> None:
        original(self, request, now)
        taken.append(request)

    monkeypatch.setattr(DeltaStream, "on_request", take)
    store = SnapshotStore()
    store.replace("n1", [])
    async with channel_to(AdsServer(store, SystemClock()), tmp_path) as to:
        call: Any = to.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
        for count, type_url in enumerate((types.CLUSTER, types.LISTENER), start=1):
            request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url)
            request.node.id = "n1"
            request.initial_resource_versions["had"] = "1"
            await call.write(request.SerializeToString())
            await eventually(lambda: len(taken) == count)  # noqa: B023 - called at once
            last = [taken[-1]]
            taken[-1:] = [request]
            await eventually(lambda: not held(last))  # noqa: B023 - called at once


async def test_what_is_no_report_ends_its_stream_with_a_reason(tmp_path: Path) -> None:
    server = AdsServer(SnapshotStore(), SystemClock(), on_report=_pass)
    async with channel_to(server, tmp_path) as to:
        call: Any = to.stream_unary(f"/{REPORT_SERVICE}/Report")()
        await call.write(b"\xff")
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="not a NodeReport") as caught:
            await call
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
