"""Child processes of an event loop, watched through pidfds: no thread, no signal handler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class Child:
    """One running child process; to be awaited with `wait`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Watch *process*, which was just started, in the running event loop."""
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Return the process id; it is not reused before the end was seen."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Return whether the process has not ended yet."""
        return not self._ended.done()

    async def wait(self) -> int:
        """Return the exit status, 128 + n after signal n; may be awaited by many."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process if it still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        self._ended.set_result(code if code >= 0 else 128 - code)


def start_child(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Child:
    """Start a process in a session of its own, with output appended to *log*.

    Args:
        argv: program and arguments; nothing is read from standard input.
        log: made if it is missing, readable by its owner only.
        env: environment; None inherits.
        pass_fds: open files that the process gets besides its output.
        cwd: working folder; None inherits.

    Raises:
        OSError: the program cannot be started.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else dict(env),
            pass_fds=pass_fds,
            cwd=cwd,
            start_new_session=True,
        )
    finally:
        os.close(output)
    return Child(process)
