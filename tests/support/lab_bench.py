"""A running lab for tests, and what an instance leaves on the machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import msgspec

from penstock.lab import cgroups
from penstock.lab.runtime import Lab, Progress
from penstock.lab.state import PodRecord
from penstock.lab.syscalls import mounts_below
from penstock.meta.paths import RunPaths
from support.lab import FakeAgent

PATIENCE = 60.0
_EXEC = (
    "import sys; from pathlib import Path; from penstock.lab.attach import exec_in_pod; "
    "from penstock.meta.paths import RunPaths; "
    "sys.exit(exec_in_pod(RunPaths(Path(sys.argv[1])), sys.argv[2], sys.argv[3:]))"
)


class Traces(msgspec.Struct, frozen=True):
    """What an instance leaves on the machine."""

    mounts: tuple[str, ...]
    cgroup: bool
    processes: tuple[int, ...]
    folder: bool


NOTHING = Traces((), cgroup=False, processes=(), folder=False)


def traces(paths: RunPaths) -> Traces:
    cgroup = cgroups.instance_root(paths.root)
    return Traces(
        tuple(mounts_below(str(paths.root))),
        cgroup.exists(),
        tuple(cgroups.processes(cgroup)),
        paths.root.exists(),
    )


class Bench(msgspec.Struct, frozen=True):
    """A running lab with what tests look at."""

    lab: Lab
    paths: RunPaths
    agent: FakeAgent
    progress: list[Progress]

    async def settled(self) -> None:
        """Return when all wanted pods, and no others, are ready."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.lab.wait_settled()
        except TimeoutError:
            raise AssertionError(f"not settled: {self.lab.status()}") from None

    def pod(self, name: str) -> PodRecord:
        """Return the pod whose name is *name* or begins with it and a dash."""
        (found,) = (
            one for one in self.lab.status() if one.name == name or one.name.startswith(f"{name}-")
        )
        return found

    async def until(self, name: str, fact: str) -> PodRecord:
        """Return the pod once the expression *fact* over its record `p` is true."""
        code = compile(fact, "fact", "eval")
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for one in self.lab.status():
                        matches = one.name == name or one.name.startswith(f"{name}-")
                        if matches and eval(code, {"p": one}):  # noqa: S307 - code of the tests themselves
                            return one
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"never {fact}: {self.lab.status()}") from None

    async def run(self, pod: str, script: str) -> str:
        """Run a shell script in a pod from another process; return what it printed."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _EXEC, str(self.paths.root), pod, "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return f"{done.stdout}{done.stderr}[{done.returncode}]"
