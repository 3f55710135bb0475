"""What other processes need to know about a running lab: `<run>/state/lab.json`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths
from penstock.runtime.files import replace_file
from penstock.runtime.processes import ProcessId


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a pod."""

    name: str
    process: ProcessId | None
    cgroup: str
    log: str
    restarts: int = 0
    exit_code: int | None = None


class PodRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pod."""

    uid: str
    namespace: str
    name: str
    netns: str
    """Relative to the run folder."""
    cgroup: str
    """Absolute path."""
    addresses: tuple[str, ...]
    phase: str
    ready: bool
    restarts: int
    reason: str
    message: str
    containers: tuple[ContainerRecord, ...]

    @property
    def is_ready_or_done(self) -> bool:
        """Return whether there is nothing to wait for."""
        return self.ready or self.phase == "Succeeded"


class LabRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A running lab."""

    process: ProcessId
    cgroup: str
    pods: tuple[PodRecord, ...] = ()


class NoLabError(PenstockError):
    """No lab runs in a run folder."""


def state_file(paths: RunPaths) -> Path:
    """Return where the state of a lab is."""
    return paths.state / "lab.json"


def write_state(paths: RunPaths, record: LabRecord) -> None:
    """Replace the state on disk.

    Raises:
        OSError: the file system refused.
    """
    paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(state_file(paths), msgspec.json.encode(record))


def read_state(paths: RunPaths) -> LabRecord:
    """Return the state on disk, also when its lab was killed.

    Raises:
        NoLabError: there is none.
    """
    try:
        return msgspec.json.decode(state_file(paths).read_bytes(), type=LabRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise NoLabError(
            f"no lab in {paths.root}; start one: penstock up DIR --run-dir {paths.root};"
            " in a cluster: kubectl exec, kubectl logs"
        ) from error


def find_pod(record: LabRecord, name: str, namespace: str = "") -> PodRecord:
    """Return the pod called *name*: its name, "namespace/name", or its Deployment's name.

    Raises:
        NoLabError: there is no such pod, or there are several.
    """
    if "/" in name:
        namespace, _, name = name.partition("/")
    inside = [pod for pod in record.pods if namespace in ("", pod.namespace)]
    exact = [pod for pod in inside if pod.name == name]
    found = exact or [pod for pod in inside if pod.name.rsplit("-", 2)[0] == name][:1]
    if len(found) == 1:
        return found[0]
    names = ", ".join(sorted(f"{pod.namespace}/{pod.name}" for pod in found or record.pods))
    wrong = "is in several namespaces" if found else "does not exist"
    raise NoLabError(f"pod {name!r} {wrong}; there are: {names or 'none'}")
