"""The script that starts Envoy in its pod, run by the machine's own shell."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from penstock.agent.envoy_process import EnvoyOptions
from penstock.agent.envoy_start import envoy_start
from penstock.meta.paths import RunPaths

UID = "0a1b2c3d-1111-2222-3333-444455556666"


class Pod:
    """A run folder with the script, and an Envoy that only tells how it was started."""

    def __init__(self, folder: Path) -> None:
        self.paths = RunPaths(folder / "a run folder")
        self.paths.state.mkdir(parents=True)
        options = EnvoyOptions(bootstrap=self.paths.envoy_bootstrap, concurrency=2)
        self.paths.envoy_start.write_text(envoy_start(self.paths, options))
        self.envoy = folder / "envoy"
        self.envoy.write_text('#!/bin/sh\npwd\nfor one in "$@"; do echo "$one"; done\n')
        self.envoy.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "ENVOY": str(self.envoy), **more}


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


async def test_envoy_starts_when_its_pod_was_admitted(pod: Pod) -> None:
    started = await asyncio.create_subprocess_exec(
        "sh", str(pod.paths.envoy_start),
        env=pod.environment(POD_UID=UID), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            while not os.access(pod.paths.envoy_asking, os.F_OK):  # noqa: ASYNC110 - a shell's file
                await asyncio.sleep(0.01)
            pod.paths.envoy_admitted.write_text("the-pod-before\n")
            await asyncio.sleep(0.3)
            assert started.returncode is None
            pod.paths.envoy_admitted.write_text(f"{UID}\n")
            output, _ = await started.communicate()
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    assert pod.paths.envoy_asking.read_text().strip() == UID
    folder, *arguments = output.decode().splitlines()
    assert folder == str(pod.paths.root)
    assert arguments[:2] == ["--config-path", str(pod.paths.envoy_bootstrap)]
    assert arguments[-2:] == ["--concurrency", "2"]


def test_a_pod_that_was_admitted_before_starts_at_once_and_asks_nobody(pod: Pod) -> None:
    pod.paths.envoy_admitted.write_text(f"{UID}\n")
    done = subprocess.run(
        ["sh", str(pod.paths.envoy_start)],
        env=pod.environment(POD_UID=UID), check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    assert b"--disable-hot-restart" in done.stdout
    assert not pod.paths.envoy_asking.exists()


def test_a_pod_without_its_uid_says_what_is_missing(pod: Pod) -> None:
    done = subprocess.run(
        ["sh", str(pod.paths.envoy_start)],
        env=pod.environment(), check=False, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode != 0
    assert "metadata.uid" in done.stderr
