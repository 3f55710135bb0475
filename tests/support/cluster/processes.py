"""Programs that outlive the command that starts them, each with a file that says which it is."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from penstock.runtime.processes import ProcessId, identify
from support.cluster.errors import ClusterError

_STOP_SECONDS = 20.0


class Processes:
    """The programs of one cluster; their files are in one folder."""

    def __init__(self, folder: Path, *, tied: bool) -> None:
        """Args:
        tied: they end with the process that started them.
        """
        self._folder, self._tied = folder, tied

    def start(
        self,
        name: str,
        words: Iterable[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> None:
        """Start a program in a session of its own; its words end up in *log*.

        Args:
            keep: a file descriptor that it gets under the same number.
        """
        argv = [*(("setpriv", "--pdeathsig", "KILL") if self._tied else ()), *words]
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        if keep is not None:
            os.set_inheritable(keep, True)  # has no keyword
        try:
            pid = os.posix_spawnp(
                argv[0], argv, dict(env or os.environ), file_actions=actions, setsid=True
            )
        finally:
            os.close(output)
        self._file(name).write_bytes(msgspec.json.encode(identify(pid)))

    def find(self, name: str) -> ProcessId | None:
        """Return a program that was started and still runs."""
        try:
            found = msgspec.json.decode(self._file(name).read_bytes(), type=ProcessId)
        except OSError:
            return None
        _reap(found.pid)
        return found if found.alive else None

    def names(self) -> list[str]:
        """Return all that were started and not stopped."""
        return sorted(path.name.removesuffix(".pid") for path in self._folder.glob("*.pid"))

    def kill(self, name: str) -> None:
        """SIGKILL, and return when it has ended.

        Raises:
            ClusterError: it does not end.
        """
        deadline = time.monotonic() + _STOP_SECONDS
        found = self.find(name)
        while found is not None and (found.alive or _has_threads(found.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} (process {found.pid}) does not end after SIGKILL")
            time.sleep(0.01)
            _reap(found.pid)
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


def _has_threads(pid: int) -> bool:
    """Return whether threads beside the first one are left, which keep files and ports open."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1  # noqa: PTH208  # names are enough
    except OSError:
        return False


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def only_child(pid: int) -> int | None:
    """Return the process that *pid* started, if there is one."""
    try:
        said = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(said[0]) if said else None
