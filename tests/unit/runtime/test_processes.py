"""Processes are ended, and waited for, whoever's children they are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator

import msgspec

from penstock.runtime.processes import identify, own_process

PAUSE = "print(1, flush=True); signal.pause()"


@contextlib.contextmanager
def child(code: str) -> Generator[subprocess.Popen[bytes]]:
    """Run Python code that has said a line."""
    words = [sys.executable, "-c", f"import signal; {code}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as made:
        try:
            assert made.stdout is not None
            made.stdout.readline()
            yield made
        finally:
            made.kill()


def test_a_process_ends_by_sigterm() -> None:
    with child(PAUSE) as made:
        identify(made.pid).end(60.0)
        assert made.wait(60) == -signal.SIGTERM


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    with child(f"signal.signal(15, signal.SIG_IGN); {PAUSE}") as made:
        identify(made.pid).end(0.2)
        assert made.wait(60) == -signal.SIGKILL


def test_who_has_its_number_since_is_left_alone() -> None:
    with child(PAUSE) as made:
        other = msgspec.structs.replace(identify(made.pid), started=1)
        assert other.wait(0.0)
        other.end(0.0)
        assert identify(made.pid).alive


def test_a_process_that_goes_on_is_waited_for_no_longer_than_asked() -> None:
    with child(PAUSE) as made:
        assert not identify(made.pid).wait(0.0)
        made.kill()
        assert identify(made.pid).wait(60.0)
    assert identify(made.pid).wait(0.0)


def test_nobody_ends_himself() -> None:
    own_process().end(0.0)
    assert own_process().alive
    assert own_process().pid == os.getpid()
