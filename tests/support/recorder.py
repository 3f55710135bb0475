"""An application under attack: writes down everything that reaches it, before it answers.

Run by its path (`python -I -S recorder.py`). On $PORT (8080) HTTP/1.1 with keep-alive; on 9000 TCP
where the server speaks first; on 9053 UDP that is answered. One line of JSON on standard output
for each connection, piece of TCP data, request and datagram. Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import cast

VERSION = os.environ.get("VERSION", "")
PORT = int(os.environ.get("PORT", "8080"))
GREETING_PORT, DATAGRAM_PORT = 9000, 9053


def note(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def head_of(raw: bytes) -> tuple[str, list[tuple[str, str]]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    split = [line.partition(":") for line in lines if line]
    return first, [(name.lower(), value.strip()) for name, _, value in split]


async def serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = str(writer.get_extra_info("peername")[0])
    note(what="connection", peer=peer)
    buffer = b""
    while data := await reader.read(65536):
        buffer += data
        while b"\r\n\r\n" in buffer:
            raw, _, buffer = buffer.partition(b"\r\n\r\n")
            first, headers = head_of(raw)
            size = int(dict(headers).get("content-length", "0"))
            while len(buffer) < size:
                buffer += await reader.read(65536)
            buffer = buffer[size:]
            answer(writer, first, headers, peer)
            await writer.drain()
    if buffer:
        note(what="bytes", peer=peer, text=buffer[:200].decode("latin-1"))
    writer.close()


def answer(
    writer: asyncio.StreamWriter, first: str, headers: list[tuple[str, str]], peer: str
) -> None:
    if "/ready" not in first:
        note(what="request", line=first, peer=peer, headers=headers)
    body = json.dumps({"version": VERSION, "line": first, "peer": peer, "headers": headers})
    head = ("HTTP/1.1 200 OK", f"content-length: {len(body)}", f"x-version: {VERSION}", "", body)
    writer.write("\r\n".join(head).encode())


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    note(what="greeted", peer=str(writer.get_extra_info("peername")[0]))
    writer.write(b"220 hello\r\n")
    data = await reader.read(200)
    note(what="said", text=data.decode("latin-1"))
    writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        note(what="datagram", peer=str(addr[0]), text=data[:200].decode("latin-1"))
        self.transport.sendto(b"heard " + data, addr)


async def main() -> None:
    both = ("0.0.0.0", "::")
    http = await asyncio.start_server(serve_http, both, PORT, backlog=1024)
    greeting = await asyncio.start_server(greet, both, GREETING_PORT)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Datagrams, local_addr=("::", DATAGRAM_PORT))
    async with http, greeting:
        await http.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
