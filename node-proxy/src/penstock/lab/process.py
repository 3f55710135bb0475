"""Start commands inside pods through `launch`, which enters the pod before it becomes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import msgspec

from penstock.lab import launch
from penstock.lab.child import Child, start_child
from penstock.lab.launch import Spec
from penstock.meta.errors import PenstockError

_LAUNCH = launch.__file__


class StartError(PenstockError):
    """A command could not be started in its pod."""


async def start(spec: Spec, log: Path) -> Child:
    """Return the running command of *spec* with output appended to *log*.

    Raises:
        StartError: it did not get as far as exec; the text says why.
    """
    with _spec_file(spec) as spec_fd, _status_pipe() as (reader, writer):
        child = start_child(
            _argv(spec_fd, writer.fileno()),
            log=log,
            env={},
            pass_fds=(spec_fd, writer.fileno()),
        )
        writer.close()
        try:
            complaint = await _read_all(reader.fileno())
        except asyncio.CancelledError:
            child.send_signal(signal.SIGKILL)
            await child.wait()
            raise
    if complaint:
        await child.wait()
        raise StartError(f"cannot start {spec['argv'][0]!r}: {complaint}")
    return child


def run_attached(spec: Spec) -> int:
    """Run the command of *spec* on this process's terminal and return its exit status.

    Raises:
        StartError: it did not get as far as exec; the text says why.
    """
    with _spec_file(spec) as spec_fd, _status_pipe() as (reader, writer):
        process = subprocess.Popen(
            _argv(spec_fd, writer.fileno()), env={}, pass_fds=(spec_fd, writer.fileno())
        )
        writer.close()
        complaint = reader.read().decode()
        code = _wait_through_interrupts(process)
    if complaint:
        raise StartError(f"cannot start {spec['argv'][0]!r}: {complaint}")
    return code if code >= 0 else 128 - code


def _wait_through_interrupts(process: subprocess.Popen[bytes]) -> int:
    """Return the exit status; Ctrl-C is for the command, which shares the terminal."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


def _argv(spec_fd: int, status_fd: int) -> list[str]:
    return [sys.executable, "-I", "-S", _LAUNCH, str(spec_fd), str(status_fd)]


@contextlib.contextmanager
def _spec_file(spec: Spec) -> Generator[int, None, None]:
    """Yield an anonymous file with *spec*: it may hold Secrets, so it is on no disk."""
    fd = os.memfd_create("penstock-spec", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(msgspec.json.encode(_escaped(spec)))
        yield fd
    finally:
        os.close(fd)


def _escaped(spec: Spec) -> Spec:
    """Return *spec* with values that are no UTF-8 as JSON can carry them."""
    env = {name: value.encode("utf-8", "surrogateescape") for name, value in spec["env"].items()}
    return {**spec, "env": {name: value.decode("latin-1") for name, value in env.items()}}


@contextlib.contextmanager
def _status_pipe() -> Generator[tuple[BinaryIO, BinaryIO], None, None]:
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(read_fd, "rb") as reader, os.fdopen(write_fd, "wb") as writer:
        yield reader, writer


async def _read_all(fd: int) -> str:
    """Return what comes through a pipe until its writers are closed."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    done: asyncio.Future[None] = loop.create_future()
    parts: list[bytes] = []

    def readable() -> None:
        part = os.read(fd, 4096)
        parts.append(part)
        if not part and not done.done():
            done.set_result(None)

    loop.add_reader(fd, readable)
    try:
        await done
    finally:
        loop.remove_reader(fd)
    return b"".join(parts).decode("utf-8", "replace")
