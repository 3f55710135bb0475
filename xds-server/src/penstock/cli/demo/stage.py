"""Where the demo plays: a scratch copy of the shop, and `penstock up` on it as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from penstock.cli import client
from penstock.cli.answers import Health, IntendedSnapshot, Problems
from penstock.cli.demo.load_process import LoadProcess, ask, here, inside, start_load
from penstock.cli.down import remove_everything
from penstock.cli.load import Answer
from penstock.cli.observe import Places, Wanted, line, past
from penstock.cli.processes import Processes, read_processes
from penstock.cli.reach import reachable
from penstock.cli.status import page_of
from penstock.lab import cgroups, syscalls
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.processes import ProcessId, identify, process_of
from penstock.xds import types

_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0
_LOOK_SECONDS = 0.05


class _Connected(msgspec.Struct, frozen=True):
    controller_connected: bool = False
    envoy_connected: bool = False


class Stage:
    """A running instance that is thrown away afterwards."""

    def __init__(self, *, only_gateways: bool) -> None:
        """Make the scratch folder; nothing runs yet."""
        self.scratch = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
        self.folder = self.scratch / "shop"
        self.paths = RunPaths(self.scratch / "run")
        self.log = self.scratch / "up.log"
        self._only_gateways = only_gateways
        self._up: asyncio.subprocess.Process | None = None
        self._loads: list[LoadProcess] = []
        self._servers: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start `penstock up` and return when everything is ready.

        Raises:
            PenstockError: it is not ready in time; the text has the end of its output.
        """
        limits = ["--only-gateways"] if self._only_gateways else []
        with self.log.open("wb") as output:
            self._up = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "penstock.cli", "up", str(self.folder)),
                *("--run-dir", str(self.paths.root), *limits),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not await self.eventually(self._is_ready, _READY_SECONDS):
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise PenstockError(f"`penstock up` is not ready; its output ends with\n{tail}")

    def _is_ready(self) -> bool:
        if self._up is None or self._up.returncode is not None:
            raise PenstockError(f"`penstock up` ended: {self.log.read_text(errors='replace')}")
        return b"ready  Ctrl-C" in self.log.read_bytes()

    async def stop(self) -> list[str]:
        """End everything and return what is left behind all the same."""
        for load in self._loads:
            await load.stop()
        known = self._process_ids()
        if self._up is not None:
            with contextlib.suppress(ProcessLookupError):
                self._up.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._up.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._up.kill()
                await self._up.wait()
        for server in self._servers:
            with contextlib.suppress(ProcessLookupError):
                server.kill()
            await server.wait()
        left = await asyncio.to_thread(self._left_behind, known)
        await asyncio.to_thread(remove_everything, self.paths)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return left

    def _left_behind(self, known: list[ProcessId]) -> list[str]:
        """Return the traces that `up` left."""
        root = str(self.paths.root)
        left = [f"process {one.pid}" for one in known if one.alive]
        left += [f"mount {point}" for point in syscalls.mounts_below(root)]
        left += [root] if self.paths.root.exists() and any(self.paths.root.iterdir()) else []
        with contextlib.suppress(cgroups.CgroupError):
            cgroup = cgroups.instance_root(self.paths.root)
            left += [str(cgroup)] if cgroup.exists() else []
        return left

    def _process_ids(self) -> list[ProcessId]:
        """Return every process of the instance."""
        processes = read_processes(self.paths)
        found = [] if processes is None else [processes.up, processes.controller, processes.agent]
        with contextlib.suppress(PenstockError):
            found.append(self.envoy())
        with contextlib.suppress(cgroups.CgroupError):
            found += map(identify, cgroups.processes(cgroups.instance_root(self.paths.root)))
        return [one for one in found if one is not None]

    def save(self, name: str, text: str) -> float:
        """Write a file of the user's folder as an editor does; return the moment, monotonic."""
        beside = self.scratch / f"{name}.new"
        beside.write_text(text)
        beside.replace(self.folder / name)
        return time.monotonic()

    async def ask(self, pod: str, *words: str) -> list[Answer]:
        """Return the answers to requests METHOD URL … from inside *pod*."""
        return await ask(inside(self.paths, pod, "ask", *words))

    async def load(self, pod: str, *words: str) -> LoadProcess:
        """Start a load METHOD URL RATE CONNECTIONS [new] inside *pod*."""
        return await self._keep(inside(self.paths, pod, "run", *words))

    async def load_from_here(self, *words: str) -> LoadProcess:
        """Start a load METHOD URL RATE CONNECTIONS [host=NAME] from this machine."""
        return await self._keep(here("run", *words))

    async def serve(self, **env: str) -> None:
        """Start an echo server on this machine; it ends with the stage."""
        self._servers.append(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "penstock.lab.echo"),
                env={**os.environ, **env},
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    async def _keep(self, argv: list[str]) -> LoadProcess:
        """Start a load that ends with the stage, if nobody ends it before."""
        load = await start_load(argv)
        self._loads.append(load)
        return load

    def processes(self) -> Processes:
        """Return the processes that `up` started.

        Raises:
            PenstockError: it does not run.
        """
        found = read_processes(self.paths)
        if found is None:
            raise PenstockError("`penstock up` wrote nothing about its processes")
        return found

    def envoy_pid(self) -> int:
        """Return Envoy's process id, 0 while it does not run."""
        status = client.agent(self.paths).get("/v1/status", dict[str, Any])
        return int((status.get("envoy") or {}).get("pid") or 0)

    def envoy(self) -> ProcessId | None:
        """Return Envoy's process; None while it does not run."""
        return process_of(self.envoy_pid())

    def page(self) -> dict[str, Any]:
        """Return what `penstock status` shows."""
        return page_of(self.paths, self.processes())

    def gateway(self) -> str:
        """Return where the Gateway is on this machine, as "127.0.0.1:8080".

        Raises:
            PenstockError: nowhere.
        """
        for one in reachable(client.agent(self.paths)):
            if one.local:
                return one.local
        raise PenstockError("no Gateway listens on this machine's loopback")

    def ask_gateway(self, at: str, method: str, path: str, host: str) -> int:
        """Return the status that a request from this machine gets; 0 if there is no answer."""
        connection = http.client.HTTPConnection(at, timeout=5.0)
        try:
            connection.request(method, path, headers={"host": host})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def denials(self, count: int) -> list[str]:
        """Return the last *count* denied flows as `penstock observe` shows them."""
        places = Places(client.controller(self.paths))
        return [line(flow, places) for flow in past(self.paths, Wanted(verdict="DENIED"), count)]

    def is_whole(self) -> bool:
        """Tell whether controller, agent and Envoy are connected with each other."""
        health = client.controller(self.paths).get("/v1/health", Health)
        status = client.agent(self.paths).get("/v1/status", _Connected)
        return health.synced and status.controller_connected and status.envoy_connected

    def problems(self) -> Problems:
        """Return what is wrong in the files."""
        return client.controller(self.paths).get("/v1/problems", Problems)

    def resource_versions(self, kind: str) -> dict[str, tuple[str, bool]]:
        """Return name → (version, whether Envoy runs it) of the resources of a type."""
        answer = client.controller(self.paths).get("/v1/snapshot", IntendedSnapshot)
        return {
            one.name: (one.version, one.acked == one.version)
            for one in answer.resources
            if types.short(one.type_url) == kind
        }

    async def eventually(self, check: Callable[[], bool], seconds: float) -> bool:
        """Return whether *check* came to hold in *seconds*; an API that is away is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(client.NotRunningError, client.ApiError):
                if await asyncio.to_thread(check):
                    return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_SECONDS)


def kill(process: ProcessId | None) -> None:
    """Send SIGKILL."""
    if process is not None and process.alive:
        os.kill(process.pid, signal.SIGKILL)
