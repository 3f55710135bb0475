"""HTTP/1.1 by hand: what is sent is exactly what a test says, what comes back is not tidied up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One response; status 0 if the connection was closed without any."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""
    body: str = ""

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for header, value in self.headers if header == name]

    def header(self, name: str) -> str:
        """Return the only value of a header, "" if there is none."""
        found = self.all(name)
        assert len(found) <= 1, found
        return "".join(found)


class Connection:
    """A connection that carries one exchange after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> Answer:
        self._writer.write(request)
        await self._writer.drain()
        return await _read(self._reader, bodiless=request.startswith(b"HEAD "))


@contextlib.asynccontextmanager
async def kept_open(at: Path | tuple[str, int], source: str = "") -> AsyncGenerator[Connection]:
    """Connect to a unix socket, or to address and port, from the address *source* if given."""
    if isinstance(at, Path):
        reader, writer = await asyncio.open_unix_connection(str(at))
    else:
        local = (source, 0) if source else None
        reader, writer = await asyncio.open_connection(*at, local_addr=local)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def exchange(at: Path | tuple[str, int], request: bytes, source: str = "") -> Answer:
    """Send *request* on a connection of its own and read the answer."""
    async with kept_open(at, source) as connection:
        return await connection.ask(request)


async def _read(reader: asyncio.StreamReader, *, bodiless: bool) -> Answer:
    """Read one answer and no further: Envoy waits a second for the client to close."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return Answer(status=0)
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    split = (line.partition(":") for line in lines)
    answer = Answer(
        status=int(first.split()[1]),
        headers=tuple((name.lower(), value.strip()) for name, _, value in split),
    )
    if bodiless:
        return answer
    if answer.header("transfer-encoding") == "chunked":
        body = b"".join([chunk async for chunk in _chunks(reader)])
    else:
        body = await reader.readexactly(int(answer.header("content-length") or 0))
    return msgspec.structs.replace(answer, body=body.decode())


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
