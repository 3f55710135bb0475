"""HTTP/1.1 on the server's side for the echo server. Sans IO. Source: RFC 9112."""

from __future__ import annotations

import http
import re

import msgspec

from penstock.lab.echo_messages import Request, Response

_MAX_HEAD = 65536
_NO_BODY = frozenset({204, 304})
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.([01])\Z")
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


class Http1:
    """One connection: requests one after the other, also pipelined."""

    def __init__(self) -> None:
        """Start with nothing received."""
        self._buffer = b""
        self._output: list[bytes] = []
        self._pending: Request | None = None
        self._missing = 0
        """Bytes of the pending request's body that have not come; -1 while it is chunked."""
        self._count = 0
        self._heads: dict[int, tuple[bool, bool]] = {}
        """By number: whether it was HEAD, whether the client wants the connection to stay."""
        self._ready: dict[int, bytes] = {}
        self._next_out = 0
        self.closing = False

    def receive(self, data: bytes) -> list[tuple[int, Request]]:
        """Return requests that *data* completed; see `penstock.lab.echo_messages.Codec`.

        Raises:
            ValueError: this is no HTTP/1.1.
        """
        self._buffer += data
        found: list[tuple[int, Request]] = []
        while (request := self._next()) is not None:
            found.append((self._count, request))
            self._count += 1
        return found

    def send(self, number: int, response: Response, *, last: bool) -> None:
        """Answer request *number*; answers leave in the order of the requests."""
        is_head, keep = self._heads.pop(number)
        keep = keep and not last
        reason = _REASONS.get(response.status, "Unknown")
        has_body = response.status not in _NO_BODY
        head = f"HTTP/1.1 {response.status} {reason}\r\ncontent-type: application/json\r\n"
        if has_body:
            head += f"content-length: {len(response.body)}\r\n"
        if not keep:
            head += "connection: close\r\n"
        body = response.body if has_body and not is_head else b""
        self._ready[number] = head.encode() + b"\r\n" + body
        while self._next_out in self._ready:
            self._output.append(self._ready.pop(self._next_out))
            self._next_out += 1
        self.closing = self.closing or not keep

    def take_output(self) -> bytes:
        """Return bytes to be sent now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def _next(self) -> Request | None:
        """Return the next complete request, None if there is none yet."""
        if self._pending is None and not self._take_head():
            return None
        assert self._pending is not None  # noqa: S101  _take_head made it
        if self._missing < 0:
            size = self._take_chunks()
            if size is None:
                return None
        else:
            if len(self._buffer) < self._missing:
                return None
            size, self._buffer = self._missing, self._buffer[self._missing :]
        request, self._pending = self._pending, None
        return msgspec.structs.replace(request, body_bytes=size)

    def _take_head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            if len(head) > _MAX_HEAD:
                self._fail()
            return False
        self._buffer = rest
        line, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
        match = _REQUEST_LINE.match(line)
        if match is None:
            self._fail()
        else:
            self._start(match, tuple(map(_header, lines)))
        return True

    def _start(self, line: re.Match[str], headers: tuple[tuple[str, str], ...]) -> None:
        by_name = dict(headers)
        connection = by_name.get("connection", "").lower()
        keep = "close" not in connection if line[3] == "1" else "keep-alive" in connection
        self._heads[self._count] = (line[1] == "HEAD", keep)
        chunked = "chunked" in by_name.get("transfer-encoding", "").lower()
        length = by_name.get("content-length", "0")
        if not length.isdigit():
            self._fail()
        self._missing = -1 if chunked else int(length)
        if by_name.get("expect", "").lower() == "100-continue":
            self._output.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._pending = Request(
            method=line[1],
            path=line[2],
            host=by_name.get("host", ""),
            headers=headers,
            body_bytes=0,
            protocol="HTTP/1.1",
        )

    def _take_chunks(self) -> int | None:
        """Return the size of a chunked body and drop it, None if it is not complete."""
        at = size = 0
        while True:
            end = self._buffer.find(b"\r\n", at)
            if end < 0:
                return None
            length = int(self._buffer[at:end].partition(b";")[0], 16)
            at = end + 2
            if length == 0:
                break
            size += length
            at += length + 2
        end = self._buffer.find(b"\r\n", at)
        while end >= 0 and end != at:
            at = end + 2
            end = self._buffer.find(b"\r\n", at)
        if end < 0:
            return None
        self._buffer = self._buffer[end + 2 :]
        return size

    def _fail(self) -> None:
        """Answer 400 and give up.

        Raises:
            ValueError: always.
        """
        self._output.append(
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        raise ValueError("not HTTP/1.1")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise ValueError("a header line without a name")
    return name.lower(), value.strip()
