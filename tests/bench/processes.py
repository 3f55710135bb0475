"""Processes of a bench: Envoys, the prober, anything that must be gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path
from typing import Any

from support.real_envoy import envoy_binary

PROBER = Path(__file__).with_name("prober.py")


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    folder: Path | None = None,
    *,
    end: signal.Signals = signal.SIGKILL,
) -> Generator[subprocess.Popen[bytes]]:
    """Run *command* until the block ends; what it prints goes to *log*."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
        try:
            yield process
        finally:
            process.send_signal(end)
            process.wait()


@contextlib.asynccontextmanager
async def talking(*command: str | Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run *command*, which is told and tells lines, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def envoy_command(config: Path, concurrency: int = 1) -> list[str | Path]:
    """Return the command of a stock Envoy with *config*."""
    return [
        *(envoy_binary(), "-c", config, "--disable-hot-restart", "-l", "warning"),
        *("--concurrency", str(concurrency)),
    ]


def answer_at(address: str, port: int, netns: str, body: str) -> dict[str, Any]:
    """Return a listener that answers every request with *body*."""
    filters = "type.googleapis.com/envoy.extensions.filters"
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
    }
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "app",
        "generate_request_id": False,
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}
        ],
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
    }
    socket_address: dict[str, Any] = {"address": address, "port_value": port}
    if netns:
        socket_address["network_namespace_filepath"] = netns
    return {
        "name": f"{address}:{port}",
        "address": {"socket_address": socket_address},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def own_address() -> str:
    """Return an address of this machine that is not of loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect(("192.0.2.1", 9))
        return str(made.getsockname()[0])


def free_port(address: str) -> int:
    with socket.socket() as made:
        made.bind((address, 0))
        return int(made.getsockname()[1])


def write_json(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content))
    return path


def most_resident(pid: int) -> int:
    """Return the most MiB that a process has had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    return 0


def proportional(pid: int) -> int:
    """Return the MiB that a process and its children have in memory; what they share counts once.

    A child that ends meanwhile counts as none.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for one in (str(pid), *children):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                total += int(line.split()[1]) if line.startswith("Pss:") else 0
    return total // 1024


def buried_cpu(pid: int) -> float:
    """Return the CPU seconds of a process's children that have ended. Source: proc(5), stat."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, stat[13:15])) / os.sysconf("SC_CLK_TCK")


def thread_cpu(pid: int, *, main_only: bool = False) -> float:
    """Return the CPU seconds of a process's living threads, to the nanosecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if not main_only or task.name == str(pid):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended since
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


class Prober:
    """See `prober.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.asked = self.failed = 0

    async def expect(self, scope: str, marker: str) -> None:
        """Start to ask in *scope* for *marker*; return once it has been asked for in vain."""
        self._stdin.write(f"{scope} {marker}\n".encode())
        line = (await self._stdout.readline()).strip()
        assert line == b"ready", f"{scope} was answered with {marker} before the change: {line!r}"

    async def seen(self) -> float:
        """Return when the marker came, in monotonic seconds."""
        time_ns, asked, failed = map(int, (await self._stdout.readline()).split())
        self.asked += asked
        self.failed += failed
        return time_ns / 1e9


@contextlib.asynccontextmanager
async def probing(socket: Path) -> AsyncGenerator[Prober]:
    """Run a prober that asks over *socket*."""
    async with talking(sys.executable, "-S", "-E", PROBER, socket) as process:
        yield Prober(process)
