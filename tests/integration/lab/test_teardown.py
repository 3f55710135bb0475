from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from penstock.lab import cgroups
from penstock.lab.network import LabNetwork, NetworkError, PodNetwork
from penstock.lab.rights import missing_rights
from penstock.lab.state import read_state
from penstock.lab.teardown import FolderInUseError, claim, teardown
from penstock.meta.paths import RunPaths
from support.lab_bench import NOTHING, PATIENCE, traces

_UP = """
import asyncio, signal, sys
from pathlib import Path
from penstock.lab.runtime import Lab
from penstock.meta.paths import RunPaths
from support.lab import FakeAgent, container, deployment, secret
from penstock.runtime.clock import SystemClock

async def main():
    lab = Lab(RunPaths(Path(sys.argv[1])), FakeAgent(), SystemClock())
    await lab.start()
    mounts = [{"name": "s", "mountPath": "/penstock-test/s"}]
    busy = container(command=["sh", "-c", "sleep 61 & sleep 62"], volumeMounts=mounts)
    volumes = [{"name": "s", "secret": {"secretName": "s"}}]
    lab.update([deployment("a", busy, replicas=2, volumes=volumes), secret("s", k="v")])
    await lab.wait_settled()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("settled", flush=True)
    await ended.wait()
    await lab.stop()

asyncio.run(main())
"""


def start(paths: RunPaths) -> subprocess.Popen[str]:
    """Start a lab in a process of its own; return when its pods are ready."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", _UP, str(paths.root)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    assert line == "settled\n"
    return process


def test_lab_that_was_killed_is_removed_without_a_trace(paths: RunPaths) -> None:
    process = start(paths)
    process.kill()
    process.wait(PATIENCE)
    left = traces(paths)
    assert len(left.processes) >= 4
    assert len(left.mounts) >= 4
    teardown(paths)
    assert traces(paths) == NOTHING
    assert not any(_is_alive(pid) for pid in left.processes)
    teardown(paths)


def _is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_teardown_ends_a_running_lab(paths: RunPaths) -> None:
    process = start(paths)
    with pytest.raises(FolderInUseError):
        claim(paths)
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    teardown(paths)
    reaper.join(PATIENCE)
    assert process.returncode == 0
    assert traces(paths) == NOTHING


def test_next_lab_takes_the_place_of_a_killed_one(paths: RunPaths) -> None:
    process = start(paths)
    process.kill()
    process.wait(PATIENCE)
    old = traces(paths).processes
    second = start(paths)
    assert not any(_is_alive(pid) for pid in old)
    assert read_state(paths).process.pid == second.pid
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE) == 0
    assert traces(paths) == NOTHING


def test_cgroup_with_a_fork_bomb_is_removed(paths: RunPaths) -> None:
    cgroup = cgroups.instance_root(paths.root)
    cgroup.mkdir()
    script = f"echo $$ > {cgroup}/cgroup.procs; while :; do sleep 9 & sleep 0.001; done"
    process = subprocess.Popen(["sh", "-c", script])
    while len(cgroups.processes(cgroup)) < 5:
        pass
    cgroups.remove(cgroup)
    assert process.wait(PATIENCE) == -signal.SIGKILL
    assert not cgroup.exists()


async def test_root_network_namespace_is_left_alone(paths: RunPaths) -> None:
    before = _addresses_and_rules()
    network = LabNetwork(paths)
    await network.make_node()
    await network.make_pod(PodNetwork(uid="u", ipv4="10.244.1.1", ipv6="fd44::1:1", index=1))
    assert _addresses_and_rules() == before
    with pytest.raises(NetworkError, match="File exists"):
        await network.make_pod(PodNetwork(uid="u", ipv4="10.244.1.2", ipv6="fd44::1:2", index=2))
    await network.remove("u")
    await network.remove("node")
    network.close()
    assert traces(paths).mounts == ()


def _addresses_and_rules() -> bytes:
    return subprocess.check_output(["ip", "addr"]) + subprocess.check_output(["ip", "rule"])


async def test_failed_pod_network_leaves_nothing(paths: RunPaths) -> None:
    network = LabNetwork(paths)
    await network.make_node()
    with pytest.raises(NetworkError):
        await network.make_pod(PodNetwork(uid="u", ipv4="nonsense", ipv6="fd44::1", index=1))
    assert not network.path("u").exists()
    good = PodNetwork(uid="u", ipv4="10.244.1.1", ipv6="fd44::1:1", index=1)
    await asyncio.wait_for(network.make_pod(good), PATIENCE)
    network.close()


def test_root_has_all_rights() -> None:
    assert missing_rights() == []


def test_ordinary_user_is_told_what_is_missing() -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = (
        "import encodings.ascii, os; from penstock.lab.rights import missing_rights as m; "
        "os.setuid(65534); print(*m(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("running as user 65534: run as root")
    assert any("CAP_SYS_ADMIN" in line for line in lines)
