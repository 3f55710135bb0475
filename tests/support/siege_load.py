"""Requests in a circle on open connections from many places, each remembered with its time."""

from __future__ import annotations

import functools
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

import msgspec

from support.siege import CLOSED, REFUSED, SILENT, UNREACHABLE, Outcome, Place, connect, talk

Raw = Callable[[int], bytes] | bytes
"""A request, or what makes one from a number that counts them."""


class Asked(msgspec.Struct, frozen=True):
    """One request and its end."""

    path: str
    """Which way it took."""
    sent: float
    done: float
    outcome: Outcome
    version: str
    first: bool
    """It was the first one of its connection."""


class Load:
    """Some threads, each with a connection that is kept as long as it lives."""

    def __init__(self, pause: float = 0.002) -> None:
        self.asked: list[Asked] = []
        self._pause = pause
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(
        self,
        path: str,
        place: Place,
        target: tuple[str, int],
        raw: Raw,
        *,
        threads: int = 1,
        keep: bool = True,
    ) -> None:
        """Ask *target*, named *path* in the results."""
        dial = functools.partial(connect, place, *target)
        for _ in range(threads):
            work = functools.partial(self._run, path, dial, raw, keep=keep)
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def wait(
        self, count: int, *, path: str = "", after: float = 0.0, seconds: float = 20.0
    ) -> None:
        """Return when *count* requests sent after a moment are done."""
        deadline = time.monotonic() + seconds
        while len(self.of(path, after)) < count:
            assert time.monotonic() < deadline, self.tally(path, after)
            time.sleep(0.01)

    def of(self, path: str = "", after: float = 0.0, until: float = float("inf")) -> list[Asked]:
        """Return what was sent on a path, all if "", between two moments."""
        return [a for a in list(self.asked) if path in ("", a.path) and after <= a.sent < until]

    def wait_for(self, outcome: Outcome, path: str, after: float) -> float:
        """Return when a request sent after a moment first had this outcome."""
        return self._wait(path, after, lambda asked: asked.outcome == outcome)

    def wait_refused(self, path: str, after: float) -> float:
        """Return when a request sent after a moment was first not answered 200."""
        return self._wait(path, after, lambda asked: asked.outcome != 200)

    def _wait(self, path: str, after: float, wanted: Callable[[Asked], bool]) -> float:
        deadline = time.monotonic() + 10
        while not (found := [a.done for a in self.of(path, after) if wanted(a)]):
            assert time.monotonic() < deadline, (path, self.tally(path, after))
            time.sleep(0.01)
        return min(found)

    def tally(
        self, path: str = "", after: float = 0.0, until: float = float("inf")
    ) -> Counter[Outcome]:
        return Counter(a.outcome for a in self.of(path, after, until))

    def _run(self, path: str, dial: Callable[[], socket.socket], raw: Raw, *, keep: bool) -> None:
        connection = None
        for number in itertools.count():
            if self._stop.is_set():
                break
            sent, version, first = time.monotonic(), "", connection is None
            try:
                if connection is None:
                    connection = dial()
                reply = talk(connection, raw(number) if callable(raw) else raw)
                outcome: Outcome = reply.outcome
                version = reply.headers.get("x-version", "")
                gone = outcome in (CLOSED, SILENT) or reply.headers.get("connection") == "close"
            except ConnectionRefusedError:
                outcome, gone = REFUSED, True
            except ConnectionError:
                outcome, gone = CLOSED, True
            except TimeoutError:
                outcome, gone = SILENT, True
            except OSError as error:
                outcome, gone = f"{UNREACHABLE}: {error.strerror}", True
            self.asked.append(Asked(path, sent, time.monotonic(), outcome, version, first))
            if connection is not None and (gone or not keep):
                connection.close()
                connection = None
            time.sleep(0.02 if gone else self._pause)
        if connection is not None:
            connection.close()
