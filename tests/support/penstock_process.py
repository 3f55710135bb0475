"""`penstock up` as a child process, and the commands that talk to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli.down import remove_everything
from penstock.lab import cgroups, syscalls
from penstock.meta.paths import RunPaths

ROOT = Path(__file__).parents[2]
READY_SECONDS, STOP_SECONDS = 90.0, 45.0


class Penstock:
    """One instance and the commands that talk to it."""

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch / "yaml"
        self.paths = RunPaths(scratch / "run")
        self.log = scratch / "up.log"
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._up is not None
        return self._up.pid

    def start(self, *options: str, wait: bool = True) -> None:
        with self.log.open("wb") as output:
            self._up = subprocess.Popen(
                self._command("up", str(self.folder), *options),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if wait:
            assert eventually(lambda: "Ctrl-C ends" in self.said, READY_SECONDS), self.said

    @property
    def said(self) -> str:
        """What `up` printed until now."""
        return self.log.read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*words), env=environment(), check=False, capture_output=True, text=True
        )

    def ask(self, pod: str, *words: str) -> tuple[int, str]:
        """Return status and version of an HTTP request from inside a pod, 0 if it is refused."""
        load = ROOT / "xds-server" / "src" / "penstock" / "cli" / "load.py"
        done = self.run("exec", pod, "--", sys.executable, "-I", "-S", str(load), "ask", *words)
        assert done.returncode == 0, done.stderr
        answer = msgspec.json.decode(done.stdout, type=dict[str, Any])
        return answer["status"], answer["version"] or answer["error"]

    def status(self) -> dict[str, Any]:
        return msgspec.json.decode(self.run("status", "-o", "json").stdout, type=dict[str, Any])

    def stop(self, number: int) -> int:
        """Send a signal to `up` and return its exit status."""
        assert self._up is not None
        self._up.send_signal(number)
        return self._up.wait(STOP_SECONDS)

    def remains(self) -> list[str]:
        """Return what is left of the instance on this machine."""
        root = self.paths.root
        left = syscalls.mounts_below(str(root))
        left += [str(root)] if root.exists() else []
        with contextlib.suppress(cgroups.CgroupError):
            cgroup = cgroups.instance_root(root)
            left += [str(cgroup)] if cgroup.exists() else []
        return left + [pid for pid in processes_about(str(root)) if pid]

    def clean(self) -> None:
        if self._up is not None and self._up.poll() is None:
            self._up.kill()
            self._up.wait()
        remove_everything(self.paths)

    def _command(self, name: str, *words: str) -> list[str]:
        command = [name, words[0]] if name == "proxy" else [name]
        rest = words[1:] if name == "proxy" else words
        option = [] if name in ("lint", "translate") else ["--run-dir", str(self.paths.root)]
        return [sys.executable, "-m", "penstock.cli", *command, *option, *rest]


def environment() -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "default"}


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes_about(text: str) -> list[str]:
    """Return the processes whose command line has *text*."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(f"process {entry.name}")
    return found
