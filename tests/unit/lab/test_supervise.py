from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from penstock.lab.supervise import ChildSpec, Supervisor
from penstock.runtime.clock import SystemClock
from support.fake_clock import FakeClock


async def test_killed_process_is_started_again(tmp_path: Path) -> None:
    starts: asyncio.Queue[int] = asyncio.Queue()
    ends: list[int] = []
    spec = ChildSpec(name="x", argv=["sleep", "60"], log=tmp_path / "x.log")
    supervisor = Supervisor(spec, SystemClock(), on_start=starts.put_nowait, on_end=ends.append)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(10):
        assert await starts.get() == 0
        os.kill(supervisor.pid, signal.SIGKILL)
        assert await starts.get() == 1
    assert ends == [128 + signal.SIGKILL]
    await supervisor.stop()
    await running
    assert supervisor.pid == 0


async def test_process_that_ends_at_once_is_started_with_growing_pauses(tmp_path: Path) -> None:
    clock = FakeClock()
    starts: asyncio.Queue[int] = asyncio.Queue()
    spec = ChildSpec(name="x", argv=["false"], log=tmp_path / "x.log")
    running = asyncio.create_task(Supervisor(spec, clock, on_start=starts.put_nowait).run())
    pauses = []
    async with asyncio.timeout(10):
        for _ in range(4):
            await starts.get()
            before = clock.monotonic()
            while starts.empty():
                if clock.sleepers:
                    clock.advance(0.05)
                await asyncio.sleep(0.001)
            pauses.append(clock.monotonic() - before)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 0.5


async def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal,time; signal.signal(15, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "x.log"
    spec = ChildSpec(name="x", argv=[sys.executable, "-c", code], log=log, grace_seconds=0.05)
    supervisor = Supervisor(spec, SystemClock())
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(10):
        while not (log.exists() and log.read_text()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        await supervisor.stop()
        await running


async def test_cancelled_supervisor_leaves_no_process(tmp_path: Path) -> None:
    spec = ChildSpec(name="x", argv=["sleep", "60"], log=tmp_path / "x.log")
    supervisor = Supervisor(spec, SystemClock())
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(10):
        while not supervisor.pid:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        pid = supervisor.pid
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert not Path(f"/proc/{pid}").exists()  # noqa: ASYNC240 - a local file
