"""An Envoy that others start: processes with its admin socket, cgroups and names in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

from penstock.agent.envoy_observer import OWN_NETNS, EnvoyObserver
from penstock.agent.kubepods import Kubepods
from penstock.meta.paths import NODE_NETNS, RunPaths

UID = "0a1b2c3d-1111-2222-3333-444455556666"
LISTEN = """
import os, signal, socket, sys
admin = socket.socket(socket.AF_UNIX)
admin.bind(sys.argv[1])
admin.listen()
signal.pause()
"""


class Pod:
    """Envoy's pod: what of it is to be seen on the node."""

    def __init__(self, folder: Path) -> None:
        self.paths = RunPaths(folder / "run")
        self.names, self._container = folder / "names", folder / "kubepods" / f"pod{UID}" / "c"
        for made in (self.paths.state, self.paths.netns, self.names, self._container):
            made.mkdir(parents=True)
        self.paths.envoy_admitted.write_text(UID)
        self.observer = EnvoyObserver(
            self.paths, Kubepods(folder / "kubepods"), lambda _: None, netns_folder=self.names
        )
        self._envoy: subprocess.Popen[bytes] | None = None

    @property
    def node(self) -> Path:
        return (self.paths.netns / NODE_NETNS).readlink()

    def start(self, name: str) -> None:
        """Start Envoy in a sandbox whose network namespace, ours, has a name."""
        self.paths.envoy_admin.unlink(missing_ok=True)
        command = [sys.executable, "-S", "-E", "-c", LISTEN, str(self.paths.envoy_admin)]
        self._envoy = subprocess.Popen(command)
        (self.names / name).symlink_to(OWN_NETNS)
        (self._container / "cgroup.procs").write_text(f"{self._envoy.pid}\n")

    def stop(self) -> None:
        """End Envoy and its sandbox."""
        for name in self.names.iterdir():
            name.unlink()
        (self._container / "cgroup.procs").write_text("")
        if self._envoy is not None:
            self._envoy.kill()
            self._envoy.wait()


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path)
    yield made
    made.stop()


@contextlib.asynccontextmanager
async def observed(pod: Pod) -> AsyncGenerator[None]:
    task = asyncio.create_task(pod.observer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.01)


async def test_the_namespace_of_a_pod_whose_sandbox_is_made_anew_is_found_again(pod: Pod) -> None:
    pod.start("cni-1")
    async with observed(pod):
        await until(lambda: pod.observer.status().pid is not None)
        assert pod.node == pod.names / "cni-1" == pod.observer.netns
        pod.stop()
        await until(lambda: pod.observer.status().pid is None and pod.node == OWN_NETNS)
        pod.start("cni-2")
        await until(lambda: pod.node == pod.names / "cni-2")
