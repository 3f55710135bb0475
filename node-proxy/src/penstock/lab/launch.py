# ruff: noqa: PTH103, PTH110, PTH112, PTH115, PTH116, PTH120, PTH123, PTH102, PTH211
# (importing pathlib would double the time that each start takes)
"""Start one command inside a pod: cgroup, network namespace, host name, mounts, then exec.

Run by its path in an isolated interpreter (`python -I -S launch.py SPEC_FD STATUS_FD`), so that
nothing of the lab's threads and event loop is copied into the pod. The process itself enters the
cgroup before it can open a socket: membership is of the socket, so its first packet is policed.

SPEC_FD holds a `Spec` as JSON. STATUS_FD is closed by exec; a failure before that writes one line.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from typing import TypedDict

try:
    from penstock.lab import syscalls
except ImportError:  # isolated: only the standard library and this folder
    sys.path.insert(0, os.path.dirname(__file__))
    import syscalls  # type: ignore[import-not-found,no-redef]  # the same module by its path

    sys.path.pop(0)

HIDDEN = ("/run/systemd/resolve", "/run/nscd")
"""Sockets through which the C library would ask the machine's resolver instead of the pod's."""


class Mount(TypedDict):
    """A file or folder that appears at *target* inside the container."""

    source: str
    target: str
    read_only: bool


class Spec(TypedDict):
    """What to start and where."""

    cgroup: str
    """Folder of the cgroup."""
    netns: str
    """File of the network namespace."""
    join: int
    """Process whose host name and mounts are shared; 0 makes new ones."""
    hostname: str
    hide: str
    """Folder that the container must not see: the run folder with its sockets."""
    scratch: str
    """Empty folder, used for mounts while they are put together."""
    mounts: list[Mount]
    cwd: str
    """Working folder, inside the container."""
    env: dict[str, str]
    """Values hold one character for each byte."""
    argv: list[str]


def enter(spec: Spec) -> None:
    """Move this process into the pod that *spec* describes.

    Raises:
        OSError: the kernel refused a step.
    """
    with open(f"{spec['cgroup']}/cgroup.procs", "w", encoding="ascii") as procs:
        procs.write(str(os.getpid()))
    netns = os.open(spec["netns"], os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(netns, syscalls.CLONE_NEWNET)
    if spec["join"]:
        join(spec["join"])
        return
    syscalls.unshare(syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNS)
    syscalls.sethostname(spec["hostname"])
    arrange(spec["mounts"], hidden=spec["hide"], scratch=spec["scratch"])


def join(pid: int) -> None:
    """Enter the UTS and mount namespaces of a process.

    Raises:
        OSError: it is gone.
    """
    kinds = (("uts", syscalls.CLONE_NEWUTS), ("mnt", syscalls.CLONE_NEWNS))
    opened = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), flag) for name, flag in kinds]
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    for fd, flag in opened:
        syscalls.setns(fd, flag)
        os.close(fd)
    # The root of the namespace is not the root of the process if that runs inside a chroot.
    os.fchdir(root)
    os.chroot(".")
    os.close(root)


def arrange(mounts: list[Mount], *, hidden: str, scratch: str) -> None:
    """Let files and folders appear at their targets and the run folder disappear.

    Nothing is written to the machine's own folders: see `make_room`.

    Args:
        mounts: in any order; they may be nested.
        hidden: the run folder.
        scratch: an empty folder inside it.

    Raises:
        OSError: the kernel refused a step.
    """
    syscalls.keep_mounts_apart()
    for point in syscalls.mounts_below(hidden):
        if not any(_inside(item["source"], point) for item in mounts):
            syscalls.umount(point)
    own_devices: set[int] = set()
    for item in sorted(mounts, key=lambda mount: mount["target"]):
        make_room(item, scratch, own_devices)
        _bind(item["source"], item["target"])
        if item["read_only"]:
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
            syscalls.mount("", item["target"], flags=flags)
    conceal(hidden)


def make_room(item: Mount, scratch: str, own_devices: set[int]) -> None:
    """Make the mount point of *item*, visible in this mount namespace only.

    The nearest existing folder above it is replaced by a memory file system that shows the same
    entries; the missing ones are made in there.

    Args:
        item: its source exists.
        scratch: an empty folder.
        own_devices: device numbers of the memory file systems made so far; grows.

    Raises:
        OSError: the kernel refused a step.
    """
    target = item["target"]
    if os.path.exists(target):
        return
    above = os.path.dirname(target)
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    if os.stat(above).st_dev not in own_devices:
        shadow(above, scratch)
        own_devices.add(os.stat(above).st_dev)
    if os.path.isdir(item["source"]):
        os.makedirs(target)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _touch(target)


def shadow(folder: str, scratch: str) -> None:
    """Replace *folder*, which may be the root, by a memory file system with the same entries.

    Raises:
        OSError: the kernel refused a step.
    """
    mode = stat.S_IMODE(os.stat(folder).st_mode)
    syscalls.mount("penstock", scratch, "tmpfs", syscalls.MS_NODEV, f"mode={mode:o},size=16m")
    with os.scandir(folder) as entries:
        for entry in entries:
            _mirror(entry, f"{scratch}/{entry.name}")
    os.chdir(scratch)
    syscalls.mount(".", folder, flags=syscalls.MS_MOVE)
    if folder == "/":
        os.chroot(".")
    os.chdir("/")


def conceal(run_folder: str) -> None:
    """Cover the run folder and the machine's name caches with empty folders.

    Raises:
        OSError: the kernel refused a step.
    """
    for point in syscalls.mounts_below(run_folder):
        syscalls.umount(point)
    options = "mode=700,size=64k"
    for folder in (run_folder, *(name for name in HIDDEN if os.path.isdir(name))):
        syscalls.mount("penstock", folder, "tmpfs", syscalls.MS_RDONLY, options)


def _mirror(entry: os.DirEntry[str], target: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if entry.is_dir():
        os.mkdir(target)
    else:
        _touch(target)
    _bind(entry.path, target)


def _bind(source: str, target: str) -> None:
    syscalls.mount(source, target, flags=syscalls.MS_BIND | syscalls.MS_REC)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def become(spec: Spec) -> None:
    """Take the working folder and the environment of *spec*, then exec its command.

    Raises:
        OSError: no such folder or command.
    """
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(spec["cwd"])
    env = {name: value.encode("latin-1") for name, value in spec["env"].items()}
    try:
        os.execvpe(spec["argv"][0], spec["argv"], env)  # noqa: S606 - no shell is wanted
    except FileNotFoundError:
        # Which folder of PATH was tried last is of no use to anybody.
        raise FileNotFoundError(0, "there is no such command in the pod") from None


def read_spec(fd: int) -> Spec:
    """Return the spec that the lab wrote into *fd*, from its first byte."""
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        spec: Spec = json.load(file)
        return spec


def main(spec_fd: int, status_fd: int) -> None:
    """Enter the pod and become the command; on failure write why and exit with 127."""
    os.set_inheritable(status_fd, False)  # noqa: FBT003 - the function's own flag
    try:
        spec = read_spec(spec_fd)
        enter(spec)
        become(spec)
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        os.write(status_fd, f"{error.strerror or error}{named}".encode())
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
