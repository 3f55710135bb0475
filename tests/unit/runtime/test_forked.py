"""Work in a copy of the process: what it makes comes across, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from penstock.runtime import forked
from penstock.runtime.forked import Forked
from penstock.runtime.processes import identify
from support.real_envoy import eventually


@contextlib.contextmanager
def copy(work: Iterator[bytes]) -> Generator[Forked]:
    made = Forked()
    made.start(work)
    try:
        yield made
    finally:
        made.stop()


async def received(made: Forked, count: int) -> list[bytes]:
    """Return at least *count* items."""
    items: list[bytes] = []

    def came() -> bool:
        items.extend(made.received())
        return len(items) >= count

    await eventually(came, 60)
    return items


def children() -> set[int]:
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, own.read_text().split()))


def numbers() -> Iterator[bytes]:
    yield from (b"%d" % i for i in range(1000))


async def test_items_come_whole_and_in_order_whatever_their_size() -> None:
    sizes = [0, 1, 5_000_000, 3]
    with copy(b"x" * size for size in sizes) as made:
        assert list(map(len, await received(made, len(sizes)))) == sizes
        assert made.received() == []


async def test_the_copy_sees_what_was_there_and_changes_nothing_here() -> None:
    seen = [b"before"]

    def work() -> Iterator[bytes]:
        seen.append(b"there")
        yield b",".join(seen)

    with copy(work()) as made:
        assert await received(made, 1) == [b"before,there"]
    assert seen == [b"before"]


async def test_a_copy_that_still_works_is_ended_and_buried() -> None:
    before = children()

    def work() -> Iterator[bytes]:
        yield b"first"
        signal.pause()

    with copy(work()) as made:
        await received(made, 1)
        (pid,) = children() - before
    assert made.received() == []
    await eventually(lambda: pid not in children(), 60)
    made.stop()


async def test_another_copy_begins_with_nothing_of_the_one_before() -> None:
    made = Forked()
    for word in (b"one", b"two"):
        made.start(iter([word, b"rest"]))
        await eventually(lambda: children() != set(), 60)
        assert (await received(made, 2))[:2] == [word, b"rest"]
        made.stop()


async def test_a_mistake_in_the_copy_is_told_and_what_came_before_it_counts(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> Iterator[bytes]:
        yield b"good"
        raise ValueError("a mistake")

    before = children()
    with copy(work()) as made:
        (pid,) = children() - before
        assert await received(made, 1) == [b"good"]
        await eventually(lambda: not identify(pid).alive, 60)
        assert "ValueError: a mistake" in capfd.readouterr().err


async def test_without_a_copy_nothing_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with copy(numbers()) as made:
        assert made.received() == []


async def test_a_connection_that_the_original_closes_is_closed() -> None:
    one, other = socket.socketpair()

    def work() -> Iterator[bytes]:
        yield b"begun"
        signal.pause()

    with copy(work()) as made:
        await received(made, 1)
        other.close()
        one.settimeout(60)
        assert await asyncio.to_thread(one.recv, 1) == b""
    one.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_copy_does_not_outlive_the_original(number: signal.Signals) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from penstock.runtime.forked import Forked\n"
        "def work():\n"
        "    print(os.getpid(), flush=True)\n"
        "    while True:\n"
        "        yield b'x'\n"
        "made = Forked()\n"
        "made.start(work())\n"
        "signal.pause()\n"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as original:
        assert original.stdout is not None
        there = identify(int(original.stdout.readline()))
        assert there.alive
        original.send_signal(number)
        original.wait(60)
    assert there.wait(60)


def test_a_copy_that_nobody_has_to_bury_is_none_to_kill() -> None:
    """SIGCHLD may be ignored by inheritance: then the kernel forgets children at once."""
    code = (
        "import os, signal, time\n"
        "from penstock.runtime.forked import Forked\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "made = Forked()\n"
        "made.start(iter([b'x']))\n"
        "try:\n"
        "    os.wait()\n"
        "except ChildProcessError:\n"
        "    made.stop()\n"
        "    print('stopped')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout


@pytest.mark.parametrize("limit", ["RLIMIT_NOFILE", "threads"])
def test_what_there_can_be_no_more_of_ends_nothing(limit: str) -> None:
    refuse = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        if limit == "RLIMIT_NOFILE"
        else "def start(self): raise RuntimeError('can\\'t start new thread')\n"
        "import threading; threading.Thread.start = start\n"
    )
    code = (
        "from penstock.runtime.forked import Forked\n"
        "import itertools\n"
        f"{refuse}"
        "made = Forked()\n"
        "made.start(itertools.repeat(b'x'))\n"
        "made.received()\n"
        "made.stop()\n"
        "print('on')\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == "on"


async def test_there_is_no_copy_where_it_might_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "memory_left", lambda: 1e6)
    before = children()
    with copy(numbers()) as made:
        assert children() == before
        assert made.received() == []
