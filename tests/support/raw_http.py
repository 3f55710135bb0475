"""HTTP/1.1 by hand: what is sent is exactly what a test says, what comes back is not tidied up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One response; status 0 if the connection was closed without any."""

    status: int
    headers: dict[str, str] = {}
    """By lower-case name; the last one of a name."""
    body: str = ""


async def exchange(at: Path | tuple[str, int], request: bytes, source: str = "") -> Answer:
    """Send *request*, which must ask for the connection to be closed, and read the answer.

    Args:
        at: a unix socket, or address and port.
        request: the bytes to send.
        source: own address, "" for any.
    """
    if isinstance(at, Path):
        reader, writer = await asyncio.open_unix_connection(str(at))
    else:
        local = (source, 0) if source else None
        reader, writer = await asyncio.open_connection(*at, local_addr=local)
    try:
        writer.write(request)
        await writer.drain()
        return parse(await reader.read())
    finally:
        writer.close()


def parse(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first:
        return Answer(status=0)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(status=int(first.split()[1]), headers=headers, body=body.decode())


def _joined(chunks: bytes) -> bytes:
    found = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        found += chunks[:length]
        chunks = chunks[length + 2 :]
    return found
