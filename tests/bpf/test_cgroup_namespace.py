"""An agent in a pod: where cgroup v2 is alone, container runtimes give pods a namespace of cgroups.

Its root is the pod's own container, paths of all others begin with "..", and the folder of the host
that the pod has mounted shows the whole tree.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.bpf.capabilities import cgroup2_mount, missing_capabilities
from penstock.lab import cgroups

LOOK = """
import sys
from pathlib import Path
from penstock.agent.kubepods import find_kubepods, namespace_of, uid_in
uid, pid = sys.argv[1:]
said = Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1]
pods = find_kubepods()
print(Path("/proc/self/cgroup").read_text().splitlines()[-1], uid_in(said), pods.find(uid),
      namespace_of(pods.find(uid)), sep="\\n")
"""


@pytest.fixture
def kubepods() -> Iterator[Path]:
    """The kubelet's root, for the driver systemd."""
    if missing := missing_capabilities():
        pytest.skip("; ".join(missing))
    mount = cgroup2_mount()
    assert mount is not None
    top = mount / f"!penstock-test-{os.getpid()}"  # found before a real one
    made = top / "kubepods.slice"
    made.mkdir(parents=True)
    try:
        yield made
    finally:
        cgroups.remove(top)


def container(kubepods: Path, uid: str) -> Path:
    classed = kubepods / "kubepods-burstable.slice"
    pod = classed / f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    made = pod / "cri-containerd-abc.scope"
    made.mkdir(parents=True)
    return made


def within(cgroup: Path, *words: str) -> list[str]:
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(cgroup), *words]


def test_pods_are_found_from_a_namespace_of_cgroups(kubepods: Path) -> None:
    agent, other = (str(uuid.uuid4()) for _ in range(2))
    pod = container(kubepods, other)
    with subprocess.Popen(within(pod, "sh", "-c", "echo in; exec sleep 60"), stdout=-1) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"in\n"
        look = (sys.executable, "-c", LOOK, other, str(running.pid))
        inside = within(container(kubepods, agent), "unshare", "--cgroup", *look)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            said = subprocess.check_output(inside, text=True, env=environment)
            netns = Path(f"/proc/{running.pid}/ns/net").stat().st_ino
            own, uid, found, namespace = said.splitlines()
            assert (own, uid, namespace) == ("0::/", other, str(netns))
            assert Path(found).samefile(pod.parent)  # by any mount of the hierarchy
        finally:
            running.kill()
