"""Requests from inside a pod: a few, one after the other, or many at a constant rate.

Run by its path in an isolated interpreter (`python -I -S load.py …`), so that it starts at once and
needs no package. Standard library only. Output is JSON, one object on a line.

    load.py ask METHOD URL [METHOD URL …]       one line for each request, on a new connection each
    load.py run METHOD URL RATE CONNECTIONS [new] [host=NAME]    until SIGTERM: a line each 20 ms

The load is open: requests start on schedule whether earlier ones were answered or not, as from
many users. With `new` each request has a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import signal
import sys
import time
from collections import Counter, deque
from typing import NamedTuple
from urllib.parse import urlsplit

WINDOW_SECONDS = 0.02
ANSWER_SECONDS = 3.0
_VERSION = b'"version":"'
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"


class Target(NamedTuple):
    """A request, ready to be sent."""

    host: str
    port: int
    request: bytes


class Answer(NamedTuple):
    """What came back."""

    status: int
    """0 if nothing did."""
    version: str
    """Which version of the server answered, "" if it does not say."""
    error: str = ""


def target_of(method: str, url: str, *, keep: bool, host: str = "") -> Target:
    """Return what to send for *method* and *url*; *host* is said instead of the URL's."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"{method} {path} HTTP/1.1",
        f"host: {host or parts.netloc}",
        "user-agent: penstock-load",
    ]
    lines += [] if keep else ["connection: close"]
    lines += ["content-length: 0"] if method in ("POST", "PUT", "PATCH") else []
    request = "\r\n".join([*lines, "", ""]).encode()
    return Target(parts.hostname or "", parts.port or 80, request)


class Connection:
    """One connection, opened when it is needed and again after it failed."""

    def __init__(self, target: Target, *, keep: bool) -> None:
        """Connect later."""
        self._target = target
        self._keep = keep
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> Answer:
        """Send the request and return the answer; a failure is an answer with status 0."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._ask()
        except TimeoutError:
            self.close()
            return Answer(0, "", f"no answer in {ANSWER_SECONDS:.0f} s")
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            return Answer(0, "", describe(error))

    async def _ask(self) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._target.host, self._target.port)
        reader, writer = self._streams
        writer.write(self._target.request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        body = await reader.readexactly(length_of(head))
        if not self._keep or b"connection: close" in head.lower():
            self.close()
        return Answer(status, version_in(body))

    def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def length_of(head: bytes) -> int:
    """Return the value of content-length, 0 if there is none.

    Raises:
        ValueError: the body is sent in chunks, which this client does not read.
    """
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            raise ValueError("the body comes in chunks")
    return length


def version_in(body: bytes) -> str:
    """Return which version of the echo server wrote *body*."""
    _, found, rest = body.partition(_VERSION)
    return rest.partition(b'"')[0].decode() if found else ""


def describe(error: Exception) -> str:
    """Return an error in a few words."""
    text = str(error)
    # A name with two addresses fails with both reasons in one text.
    if isinstance(error, ConnectionRefusedError) or 0 < text.count("[Errno") == text.count(
        _REFUSED
    ):
        return "connection refused"
    if isinstance(error, asyncio.IncompleteReadError):
        return "connection closed before the answer"
    if isinstance(error, ConnectionResetError):
        return "connection reset"
    return text or type(error).__name__


class Load:
    """Constant load on one target, with results by window of time."""

    def __init__(self, target: Target, rate: float, connections: int, *, keep: bool) -> None:
        """Prepare; nothing is sent yet.

        Args:
            target: what to ask.
            rate: requests in a second.
            connections: how many at most are open at a time.
            keep: whether connections are used again.
        """
        self._rate = rate
        self._idle = [Connection(target, keep=keep) for _ in range(connections)]
        self._waiting: deque[None] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: Counter[Answer] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Send and tell until *stop* is set, then wait for what is on its way."""
        began = time.monotonic()
        sent = 0
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._rate)
            self._start(due - sent)
            sent = max(due, sent)
            await asyncio.sleep(WINDOW_SECONDS)
            self._tell()
        self._waiting.clear()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        self._tell()

    def _start(self, count: int) -> None:
        """Start *count* requests, or let them wait for a connection."""
        self._waiting.extend([None] * count)
        while self._waiting and self._idle:
            self._waiting.popleft()
            task = asyncio.create_task(self._use(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _use(self, connection: Connection) -> None:
        """Send requests on one connection as long as some wait for it."""
        while True:
            self._results[await connection.ask()] += 1
            if not self._waiting:
                break
            self._waiting.popleft()
        self._idle.append(connection)

    def _tell(self) -> None:
        """Print what came back since the last time."""
        results, self._results = self._results, Counter()
        counts = [[*answer, count] for answer, count in sorted(results.items())]
        print_line({"t": time.monotonic(), "results": counts})


def print_line(value: object) -> None:
    """Print one JSON object."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def ask_all(words: list[str]) -> None:
    """Ask METHOD URL pairs, one after the other."""
    for method, url in zip(words[::2], words[1::2], strict=True):
        answer = await Connection(target_of(method, url, keep=False), keep=False).ask()
        print_line(answer._asdict())


async def run_load(method: str, url: str, rate: str, connections: str, *options: str) -> None:
    """Put load on METHOD URL until SIGTERM."""
    keep = "new" not in options
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    named = [one.removeprefix("host=") for one in options if one.startswith("host=")]
    target = target_of(method, url, keep=keep, host="".join(named))
    await Load(target, float(rate), int(connections), keep=keep).run(stop)


def main(argv: list[str]) -> None:
    """Do what *argv* says."""
    with contextlib.suppress(BrokenPipeError):
        if argv[0] == "ask":
            asyncio.run(ask_all(argv[1:]))
        else:
            asyncio.run(run_load(*argv[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
