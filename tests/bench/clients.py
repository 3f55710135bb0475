"""Simulated nodes: delta xDS clients that take everything, many in one process.

Run as `python clients.py SOCKET FIRST COUNT [BROUGHT]`. Each client has a connection of its own. It
asks for all types, and accepts what it gets; with the file BROUGHT, serialised requests one after
another, it says what it has from before, as an agent does that comes back, and reports that all of
it is in force. Prints "ready" when it can connect, and two lines for each line that it reads:
"ready" when it waits, and then one of JSON:

    connect           the socket took connections, and all clients are in step
    expect TYPE_URL   each client has got a response of that type
    reconnect         all connections were cut and made anew, and all clients are in step
    remember FILE     the requests by which a client with the same resources would come back
    end               ends

Times are monotonic seconds, which all processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec

from penstock.ads.server import REPORT_SERVICE, SERVICE
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.framing import varint

_OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 30),
    ("grpc.use_local_subchannel_pool", 1),
)
QUIET = 0.5
"""Seconds without a response after which a client counts as in step."""
_TYPE_URL, _NONCE = b"\x22", b"\x2a"
"""Tags of the fields of a response; our server writes them first."""


class Step(msgspec.Struct):
    """What clients have to tell."""

    start: float
    first: float = 0.0
    """When the first client had its first response."""
    last: float = 0.0
    """When the last client had its last response."""
    size: int = 0
    """Bytes that all clients got."""


class Client:
    """One node."""

    def __init__(self, path: str, name: str, brought: Sequence[bytes], report: bytes) -> None:
        self._path, self._brought = path, brought
        self._report = report and report + node_pb2.NodeReport(node=name).SerializeToString()
        node = discovery_pb2.DeltaDiscoveryRequest()
        node.node.id = name
        self._node = node.SerializeToString()
        self._call: Any = None
        self._channel: Any = None
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self.versions: dict[str, dict[str, str]] | None = None
        """What it has, if it is to be remembered."""
        self.answered: dict[str, float] = {}
        """When a response of a type came last."""
        self.received = 0
        self.first = 0.0
        """When the first response came."""
        self.progress = asyncio.Event()

    async def start(self) -> None:
        self.answered.clear()
        self._channel = grpc.aio.insecure_channel(f"unix:{self._path}", options=_OPTIONS)
        self._call = self._channel.stream_stream(f"/{SERVICE}/DeltaAggregatedResources")()
        self._task = asyncio.create_task(self._follow())
        self._task.add_done_callback(_end_if_refused)
        if self._report:
            self._telling = asyncio.create_task(self._tell())
            self._telling.add_done_callback(_end_if_refused)

    async def stop(self) -> None:
        for task in (self._task, self._telling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await task
        if self._channel is not None:
            await self._channel.close()

    async def _tell(self) -> None:
        """Report what is in force, and that nothing changes."""

        async def reports() -> AsyncIterator[bytes]:
            yield self._report
            await asyncio.Event().wait()

        await self._channel.stream_unary(f"/{REPORT_SERVICE}/Report")(reports())

    async def _follow(self) -> None:
        for request in self._brought:
            # Concatenated messages are one message: the node is in each request.
            await self._call.write(request + self._node)
        async for payload in self._call:
            type_url, nonce = _head(payload)
            if self.versions is not None:
                self._remember(self.versions, payload)
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
            await self._call.write(answer.SerializeToString())
            self.answered[type_url] = time.monotonic()
            self.first = self.first or self.answered[type_url]
            self.received += len(payload)
            self.progress.set()

    def _remember(self, versions: dict[str, dict[str, str]], payload: bytes) -> None:
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(payload)
        found = versions.setdefault(response.type_url, {})
        found.update((one.name, one.version) for one in response.resources)

    @property
    def in_step(self) -> bool:
        return len(self.answered) == len(types.SENDING_ORDER) + 1


def _end_if_refused(task: asyncio.Task[None]) -> None:
    """End the process if a stream was not ended by us: whoever measures must not wait for it."""
    if not task.cancelled():
        sys.stderr.write(f"a stream ended: {task.exception()!r}\n")
        os._exit(1)


def _head(payload: bytes) -> tuple[str, str]:
    """Return type and nonce of a response without reading the rest."""
    assert payload[:1] == _TYPE_URL
    end = 2 + payload[1]
    assert payload[end : end + 1] == _NONCE
    return payload[2:end].decode(), payload[end + 2 : end + 2 + payload[end + 1]].decode()


def requests(versions: dict[str, dict[str, str]]) -> list[bytes]:
    """Return what a client asks at first that has *versions* of each type."""
    return [
        discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=["*"],
            initial_resource_versions=versions.get(type_url, {}),
        ).SerializeToString()
        for type_url in (*types.SENDING_ORDER, types.WHOLE)
    ]


def report(requests: Sequence[bytes]) -> bytes:
    """Return a report of an unnamed node that has what it says in *requests*."""
    made = node_pb2.NodeReport()
    for one in map(discovery_pb2.DeltaDiscoveryRequest.FromString, requests):
        made.in_force.add(type_url=one.type_url, versions=one.initial_resource_versions)
    return made.SerializeToString()


def write_requests(path: Path, made: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(varint(len(one)) + one for one in made))


def _read_requests(path: Path) -> list[bytes]:
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        size = shift = 0
        while True:
            byte = content[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(content[at : at + size])
        at += size
    return found


async def _until(clients: Sequence[Client], done: Callable[[Client], bool]) -> None:
    """Wait until *done* holds of every client."""
    for client in clients:
        while not done(client):
            client.progress.clear()
            await client.progress.wait()


async def _expect(clients: Sequence[Client], type_url: str) -> Step:
    start = _rest(clients)
    for client in clients:
        client.answered.pop(type_url, None)
    _say("ready")
    await _until(clients, lambda client: type_url in client.answered)
    return _step(start, clients)


async def _reconnect(clients: Sequence[Client]) -> Step:
    await asyncio.gather(*(client.stop() for client in clients))
    _say("ready")
    return await _connect(clients)


async def _connect(clients: Sequence[Client]) -> Step:
    start = _rest(clients)
    await asyncio.gather(*(client.start() for client in clients))
    await _until(clients, lambda client: client.in_step)
    before = -1
    while (size := sum(client.received for client in clients)) != before:
        before = size
        await asyncio.sleep(QUIET)
    return _step(start, clients)


def listens(path: Path) -> bool:
    """Return whether connections to *path* are taken: the socket may be there before."""
    with socket.socket(socket.AF_UNIX) as made:
        return made.connect_ex(str(path)) == 0


async def _listened(path: Path) -> None:
    while True:
        if listens(path):
            return
        await asyncio.sleep(0.005)


def _rest(clients: Sequence[Client]) -> float:
    for client in clients:
        client.received, client.first = 0, 0.0
    return time.monotonic()


def _step(start: float, clients: Sequence[Client]) -> Step:
    return Step(
        start,
        min(client.first for client in clients),
        max(max(client.answered.values()) for client in clients),
        sum(client.received for client in clients),
    )


def _say(what: Step | str) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


async def _do(clients: Sequence[Client], path: Path, line: str) -> None:
    command, _, argument = line.strip().partition(" ")
    match command:
        case "connect":
            _say("ready")
            await _listened(path)
            _say(await _connect(clients))
        case "expect":
            _say(await _expect(clients, argument))
        case "reconnect":
            _say(await _reconnect(clients))
        case _:
            write_requests(Path(argument), requests(clients[0].versions or {}))
            _say("ready")


async def _main(path: str, first: int, count: int, brought: Path | None) -> None:
    made = requests({}) if brought is None else _read_requests(brought)
    told = b"" if brought is None else report(made)
    clients = [Client(path, f"node-{first + i}", made, told) for i in range(count)]
    if brought is None:
        clients[0].versions = {}
    _say("ready")
    loop = asyncio.get_running_loop()
    while (line := await loop.run_in_executor(None, sys.stdin.readline)).strip() not in ("", "end"):
        await _do(clients, Path(path), line)
    for client in clients:
        await client.stop()


if __name__ == "__main__":
    _brought = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), _brought))
