"""The cgroups of Kubernetes' pods: where they are, whose they are, what runs in them and where.

Source: kubelet, pkg/kubelet/cm (pod_container_manager_linux.go, cgroup_manager_linux.go). The
kubelet's root is `kubepods` with the driver cgroupfs and `kubepods.slice` with systemd, where each
name repeats those above it and dashes of a uid become underscores:

    kubepods/pod<uid>/<container>                       guaranteed
    kubepods/burstable/pod<uid>/<container>
    kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<uid>.slice/<container>.scope

On a machine with cgroup v1 the same names are in the v2 hierarchy beside it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import structlog

from penstock.bpf.capabilities import NO_CGROUP2, cgroup2_mounts
from penstock.bpf.errors import DatapathError

_POD = re.compile(r"(?:.*-)?pod(?P<uid>[0-9a-fA-F][0-9a-fA-F_-]{6,62})(?:\.slice)?\Z")
_CLASS = re.compile(r"(?:.*-)?(?:burstable|besteffort)(?:\.slice)?\Z")
_ROOT = re.compile(r"(?:.*-)?kubepods(?:\.slice)?\Z")
_DEEPEST_ROOT = 3
"""Levels below the mount to search: a kubelet in a container has a root of its own."""

log = structlog.get_logger(__name__)


def uid_of(name: str) -> str:
    """Return the uid of the pod whose cgroup is called *name*; "" if it is no pod's."""
    match = _POD.match(name)
    return match["uid"].replace("_", "-") if match else ""


def uid_in(path: str) -> str:
    """Return the uid of the pod in whose cgroup *path* is, as /proc/<pid>/cgroup says it."""
    return next((uid for part in path.split("/") if (uid := uid_of(part))), "")


class Kubepods:
    """The cgroup below which the kubelet has all pods."""

    def __init__(self, root: Path) -> None:
        """Look below *root*, in cgroup v2."""
        self.root = root

    def all(self) -> dict[str, Path]:
        """Return the cgroups of pods by uid."""
        return dict(self._pods(self.root))

    def find(self, uid: str) -> Path | None:
        """Return the cgroup of one pod."""
        return self.all().get(uid)

    def _pods(self, folder: Path) -> Iterator[tuple[str, Path]]:
        for child in _folders(folder):
            if uid := uid_of(child.name):
                yield uid, child
            elif _CLASS.match(child.name):
                yield from self._pods(child)


def processes(cgroup: Path) -> Iterator[int]:
    """Yield the ids of the processes in and below *cgroup*, as our /proc knows them."""
    for folder in (cgroup, *_below(cgroup)):
        try:
            text = (folder / "cgroup.procs").read_text("ascii")
        except OSError:  # gone meanwhile, or a cgroup of threads
            continue
        yield from (pid for line in text.split() if (pid := int(line)))


def namespace_of(cgroup: Path, proc: Path = Path("/proc"), *, last: int | None = None) -> int:
    """Return the inode of the network namespace of the first process in *cgroup*; 0: none.

    The process *last* is asked when there is no other one.
    """
    for pid in sorted(processes(cgroup), key=lambda pid: pid == last):
        try:
            return (proc / str(pid) / "ns" / "net").stat().st_ino
        except OSError:
            continue
    return 0


def named_namespaces(folder: Path) -> dict[int, Path]:
    """Return the network namespaces that the container runtime keeps in *folder*, by inode."""
    found: dict[int, Path] = {}
    try:
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its pod ended just now
                found[path.stat().st_ino] = path
    except OSError as error:
        log.warning("network namespaces not listed", reason=str(error))
    return found


def inodes(cgroup: Path) -> frozenset[int]:
    """Return the ids of *cgroup* and of all below it, as sockets tell them."""
    found: set[int] = set()
    for folder in (cgroup, *_below(cgroup)):
        try:
            found.add(folder.stat().st_ino)
        except OSError:
            continue
    return frozenset(found)


def find_kubepods() -> Kubepods:
    """Return the kubelet's root: the one that we are below, else the first one in cgroup v2.

    Raises:
        DatapathError: there is none.
    """
    mounts = list(reversed(cgroup2_mounts()))
    if not mounts:
        raise DatapathError(NO_CGROUP2)
    own = _own_cgroup()
    for mount in mounts:
        for folder in (mount / own, *(mount / own).parents):
            if _ROOT.match(folder.name) and folder.is_dir():
                return Kubepods(folder)
    for mount in mounts:
        if (found := _search(mount, _DEEPEST_ROOT)) is not None:
            return Kubepods(found)
    raise DatapathError(
        "the kubelet's cgroup of pods (kubepods) is not below "
        + " or ".join(map(str, mounts))
        + "; name it by --kubepods-cgroup"
    )


def _own_cgroup() -> str:
    """Return our cgroup as a path without a slash at the beginning."""
    for line in Path("/proc/self/cgroup").read_text("ascii", "replace").splitlines():
        hierarchy, _, path = line.split(":", 2)
        if hierarchy == "0":
            return path.strip("/")
    return ""


def _search(folder: Path, levels: int) -> Path | None:
    children = list(_folders(folder))
    for child in children:
        if _ROOT.match(child.name):
            return child
    if levels > 1:
        for child in children:
            if (found := _search(child, levels - 1)) is not None:
                return found
    return None


def _below(folder: Path) -> Iterator[Path]:
    for child in _folders(folder):
        yield child
        yield from _below(child)


def _folders(folder: Path) -> list[Path]:
    """Return the folders in *folder*, sorted; none if it is gone."""
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return []
