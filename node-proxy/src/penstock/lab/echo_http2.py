"""HTTP/2 on the server's side for the echo server. Sans IO. Source: RFC 9113."""

from __future__ import annotations

from typing import Any

import msgspec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from penstock.lab.echo_messages import Request, Response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Http2:
    """One connection with many streams; a response's number is its stream's."""

    def __init__(self) -> None:
        """Start with the server's settings as first output."""
        config = H2Configuration(client_side=False, header_encoding="utf-8")
        self._connection = H2Connection(config)
        self._connection.initiate_connection()
        self._open: dict[int, Request] = {}
        self._unsent: dict[int, bytes] = {}
        """Bodies that wait for the peer's flow control window."""
        self._answering: set[int] = set()
        self._last = False
        self._ended = False

    @property
    def closing(self) -> bool:
        """Return whether the connection ends when the output is sent."""
        return self._ended or (self._last and not (self._open or self._answering or self._unsent))

    def receive(self, data: bytes) -> list[tuple[int, Request]]:
        """Return requests that *data* completed; see `penstock.lab.echo_messages.Codec`.

        Raises:
            ValueError: the peer broke the protocol.
        """
        try:
            events = self._connection.receive_data(data)
        except ProtocolError as error:
            raise ValueError(str(error)) from error
        found: list[tuple[int, Request]] = []
        for event in events:
            self._take(event, found)
        return found

    def send(self, number: int, response: Response, *, last: bool) -> None:
        """Answer the stream *number*."""
        if number not in self._answering:
            return
        self._answering.remove(number)
        headers = [
            (":status", str(response.status)),
            ("content-type", "application/json"),
            ("content-length", str(len(response.body))),
        ]
        self._connection.send_headers(number, headers)
        self._unsent[number] = response.body
        self._send_bodies()
        if last and not self._last:
            self._last = True
            self._connection.close_connection(last_stream_id=number)

    def take_output(self) -> bytes:
        """Return bytes to be sent now."""
        return self._connection.data_to_send()

    def _take(self, event: Event, found: list[tuple[int, Request]]) -> None:
        match event:
            case RequestReceived(stream_id=int(stream), headers=headers):
                self._open[stream] = _request(list(headers or ()))
            case DataReceived(stream_id=int(stream), data=data, flow_controlled_length=size):
                self._connection.acknowledge_received_data(size or 0, stream)
                self._count(stream, len(data or b""))
            case StreamEnded(stream_id=int(stream)):
                self._answering.add(stream)
                found.append((stream, self._open.pop(stream)))
            case StreamReset(stream_id=int(stream)):
                self._forget(stream)
            case WindowUpdated():
                self._send_bodies()
            case ConnectionTerminated():
                self._ended = True
            case _:
                pass

    def _count(self, stream: int, size: int) -> None:
        request = self._open.get(stream)
        if request is not None:
            total = request.body_bytes + size
            self._open[stream] = msgspec.structs.replace(request, body_bytes=total)

    def _forget(self, stream: int) -> None:
        self._open.pop(stream, None)
        self._unsent.pop(stream, None)
        self._answering.discard(stream)

    def _send_bodies(self) -> None:
        """Send as much of the waiting bodies as the peer's windows allow."""
        for stream, body in list(self._unsent.items()):
            room = self._connection.local_flow_control_window(stream)
            frame = min(room, len(body), self._connection.max_outbound_frame_size)
            whole = frame == len(body)
            if frame or whole:
                self._connection.send_data(stream, body[:frame], end_stream=whole)
            if whole:
                del self._unsent[stream]
            else:
                self._unsent[stream] = body[frame:]


def _request(fields: list[Any]) -> Request:
    pairs = [(str(name), str(value)) for name, value in fields]
    pseudo = {name: value for name, value in pairs if name.startswith(":")}
    headers = tuple((name, value) for name, value in pairs if not name.startswith(":"))
    return Request(
        method=pseudo.get(":method", ""),
        path=pseudo.get(":path", ""),
        host=pseudo.get(":authority") or dict(headers).get("host", ""),
        headers=headers,
        body_bytes=0,
        protocol="HTTP/2",
    )
