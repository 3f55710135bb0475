"""Cluster DNS over UDP and TCP, answering from a `Zone` inside the node's network namespace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import cast

from typing_extensions import override

from penstock.lab import zone as names
from penstock.lab.addressing import family_of
from penstock.lab.cluster_dns import POD_ADDRESSES
from penstock.lab.dnswire import (
    MalformedQueryError,
    Query,
    Rcode,
    encode_answer,
    encode_error,
    parse_query,
)

MakeSocket = Callable[[int, int], Awaitable[socket.socket]]
"""Return a socket of a family and a kind that lives where the server shall answer."""

PORT = 53
_IDLE_SECONDS = 10.0
_MAX_CONNECTIONS = 256


class DnsServer:
    """Answers with what `zone` holds at the time of each question."""

    def __init__(self) -> None:
        """Start with no names."""
        self.zone = names.EMPTY
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start(
        self,
        make_socket: MakeSocket,
        addresses: tuple[str, ...] = POD_ADDRESSES,
        port: int = PORT,
    ) -> None:
        """Answer at *addresses*, each by UDP and TCP; being bound, answers come from there.

        Raises:
            OSError: an address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        for address in addresses:
            family = family_of(address)
            datagrams = _bound(await make_socket(family, socket.SOCK_DGRAM), address, port)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), sock=datagrams
            )
            self._transports.append(transport)
            bound = datagrams.getsockname()[1]
            stream = _bound(await make_socket(family, socket.SOCK_STREAM), address, bound)
            self._servers.append(await asyncio.start_server(self._serve, sock=stream))

    async def stop(self) -> None:
        """Stop answering."""
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    def respond(self, message: bytes, *, udp: bool) -> bytes:
        """Return the answer to a message, b"" if there shall be none."""
        try:
            query = parse_query(message)
        except MalformedQueryError:
            return encode_error(message, Rcode.FORMERR)
        limit = query.udp_size if udp else 65535
        if query.opcode != 0:
            return encode_answer(query, Rcode.NOTIMP, limit=limit)
        return self._look_up(query, limit)

    def _look_up(self, query: Query, limit: int) -> bytes:
        if not query.in_class:
            return encode_answer(query, Rcode.REFUSED, limit=limit)
        reply = self.zone.answer(query.name, query.type)
        return encode_answer(query, reply.rcode, reply.answers, reply.authority, limit=limit)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the questions of one connection, each with its length before it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine runs in a task
        if len(self._connections) >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, OSError):
                while True:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        message = await reader.readexactly(length)
                    answer = self.respond(message, udp=False)
                    if not answer:
                        return
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        finally:
            self._connections.discard(task)
            writer.close()


def _bound(made: socket.socket, address: str, port: int) -> socket.socket:
    """Bind a socket, or close it.

    Raises:
        OSError: the address cannot be bound.
    """
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


class _Datagrams(asyncio.DatagramProtocol):
    """Passes datagrams to the server and its answers back."""

    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.respond(data, udp=True)
        if answer and self._transport is not None:
            self._transport.sendto(answer, addr)
