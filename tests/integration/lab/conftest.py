"""Labs in run folders of their own; every test leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from penstock.lab.rights import missing_rights
from penstock.lab.runtime import Lab, LabOptions, Progress
from penstock.lab.teardown import teardown
from penstock.meta.paths import RunPaths
from penstock.runtime.clock import SystemClock
from support.lab import FakeAgent
from support.lab_bench import NOTHING, Bench, traces


@pytest.fixture(scope="session", autouse=True)
def _rights() -> None:
    if missing := missing_rights():
        pytest.skip("; ".join(missing))


@pytest.fixture
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPaths]:
    found = RunPaths(tmp_path_factory.mktemp(f"lab{os.getpid()}-") / "run")
    try:
        yield found
    finally:
        teardown(found)


@pytest_asyncio.fixture
async def bench(paths: RunPaths) -> AsyncIterator[Bench]:
    """A lab whose pods ask the DNS server itself: there is no eBPF that translates its Service."""
    agent = FakeAgent()
    progress: list[Progress] = []
    options = LabOptions(nameserver="10.244.0.10", drain_seconds=0.0)
    lab = Lab(paths, agent, SystemClock(), options=options, on_progress=progress.append)
    await lab.start()
    try:
        yield Bench(lab, paths, agent, progress)
    finally:
        await lab.stop()
    assert traces(paths) == NOTHING
