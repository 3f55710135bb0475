"""Enter a running pod from another process, and read its log: `penstock exec` and `logs`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.lab import logs, process
from penstock.lab.launch import Spec
from penstock.lab.state import ContainerRecord, NoLabError, PodRecord, find_pod, read_state
from penstock.meta.paths import RunPaths


def exec_in_pod(
    paths: RunPaths,
    pod: str,
    argv: Sequence[str],
    *,
    namespace: str = "",
    container: str = "",
) -> int:
    """Run a command inside a pod on this process's terminal and return its exit status.

    It joins the pod's cgroup, so that policies hold for it as for the pod's own processes.

    Args:
        paths: the run folder of a running lab.
        pod: see `penstock.lab.state.find_pod`.
        argv: program and arguments.
        namespace: of the pod; "" looks in all.
        container: "" takes the first one that runs.

    Raises:
        NoLabError: there is no such lab, pod or running container.
        StartError: the command could not be started.
    """
    found = find_pod(read_state(paths), pod, namespace)
    chosen = _running_container(found, container)
    assert chosen.process is not None  # noqa: S101  a running one has a process
    spec = Spec(
        cgroup=chosen.cgroup,
        netns=str(paths.root / found.netns),
        join=chosen.process.pid,
        hostname="",
        hide="",
        scratch="",
        mounts=[],
        cwd="/",
        env=_environment_of(chosen.process.pid),
        argv=list(argv),
    )
    return process.run_attached(spec)


def read_logs(
    paths: RunPaths, pod: str, *, namespace: str = "", container: str = "", follow: bool = False
) -> Iterator[bytes]:
    """Yield the log of a pod's container in pieces; with *follow* until the pod is gone.

    Raises:
        NoLabError: there is no such lab, pod or container.
    """
    found = find_pod(read_state(paths), pod, namespace)
    names = {one.name: one for one in found.containers}
    if container and container not in names:
        raise NoLabError(
            f"pod {found.name!r} has no container {container!r}; it has {sorted(names)}"
        )
    log = Path((names[container] if container else found.containers[-1]).log)
    if not follow:
        return logs.read(log)
    return logs.follow(log, stop=lambda: not _still_there(paths, found.uid))


def _still_there(paths: RunPaths, uid: str) -> bool:
    try:
        return any(pod.uid == uid for pod in read_state(paths).pods)
    except NoLabError:
        return False


def _running_container(pod: PodRecord, name: str) -> ContainerRecord:
    running = [
        one
        for one in pod.containers
        if name in ("", one.name) and one.process is not None and one.process.alive
    ]
    if not running:
        which = f"container {name!r}" if name else "container"
        why = f": {pod.reason} {pod.message}".rstrip() if pod.reason else ""
        raise NoLabError(f"no {which} of pod {pod.namespace}/{pod.name} runs{why}")
    return running[0]


def _environment_of(pid: int) -> dict[str, str]:
    """Return the variables with which a process was started."""
    raw = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (entry.decode("utf-8", "surrogateescape").partition("=") for entry in raw if entry)
    return {name: value for name, _, value in pairs}
