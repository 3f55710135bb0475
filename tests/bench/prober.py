"""Asks Envoy again and again on one connection until it is answered the new way.

Run as `python prober.py SOCKET`, a process of its own so that it shares no lock with the server.
Reads lines "SCOPE MARKER" and answers each with two lines: "ready" once it is asking, and
"NANOSECONDS ASKED FAILED" when a whole response with MARKER in it was there: the time by the
monotonic clock, which all processes share, how often it asked, and how often it was answered
otherwise than 200. Needs the standard library only.
"""

from __future__ import annotations

import re
import socket
import sys
import time

PAUSE = 100e-6
"""Seconds between requests: asking without pause would take a core from Envoy."""
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class Connection:
    """One keep-alive connection over a unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(self._path)
        return made

    def get(self, scope: str) -> bytes:
        """Return head and body of one response; b"" if the connection was closed instead."""
        self._socket.sendall(
            f"GET /bench HTTP/1.1\r\nhost: bench\r\nx-bench-scope: {scope}\r\n\r\n".encode()
        )
        answer = b""
        while not _complete(answer):
            received = self._socket.recv(65536)
            if not received:
                self._socket = self._connect()
                return b""
            answer += received
        return answer


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and (length is None or len(body) >= int(length[1]))


def probe(connection: Connection, scope: str, marker: bytes) -> str:
    """Ask until *marker* comes; return what to report."""
    asked = failed = 0
    while True:
        answer = connection.get(scope)
        now = time.monotonic_ns()
        asked += 1
        failed += not answer.startswith(b"HTTP/1.1 200")
        if marker in answer:
            return f"{now} {asked} {failed}"
        if asked == 1:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
        time.sleep(PAUSE)


def main() -> None:
    connection = Connection(sys.argv[1])
    for line in sys.stdin:
        scope, marker = line.split(maxsplit=1)
        sys.stdout.write(probe(connection, scope, marker.strip().encode()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
