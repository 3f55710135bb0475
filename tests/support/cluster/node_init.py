"""The first process of a node: mounts, containerd and kubelet, and the reaping of orphans.

It runs as process 1 in namespaces that `unshare` made. A program that ends is started again, as an
init system would.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from support.cluster.errors import ClusterError
from support.cluster.node import CGROUPS, hierarchies
from support.cluster.node_settings import (
    CNI_CONFIGURATION,
    CNI_PROGRAMS,
    CONTAINERD_SOCKET,
    REGISTRY_HOSTS,
    NodeSettings,
    cni_configuration,
    containerd_configuration,
    kubelet_configuration,
    registry_hosts,
)

_CLONE_NEWCGROUP = 0x02000000
_START_SECONDS = 60.0
_RESTART_PAUSE = 0.5
_OVERLAID = ("/etc", "/opt", "/var")
"""The node sees the machine's, and writes into its own memory."""
_OWN_TMPFS = ("/var/lib/kubelet", "/var/lib/containerd", "/var/log", "/etc/cni", "/opt/cni")


class Hierarchy(msgspec.Struct, frozen=True):
    """One mounted hierarchy of cgroups, as it is mounted again for the node."""

    path: Path
    type: str
    options: str


def main(file: Path) -> None:
    """Be a node until killed."""
    settings = msgspec.json.decode(file.read_bytes(), type=NodeSettings)
    socket.sethostname(settings.node.name)
    _mount_cgroups(settings.node.cgroup)
    _mount_folders()
    _write_settings(settings)
    _supervise(settings)


def _mount_cgroups(name: str) -> None:
    """Make the node's own cgroup the root of what it sees; its programs go into /system."""
    found = _hierarchies()
    links = {path: path.readlink() for path in CGROUPS.iterdir() if path.is_symlink()}
    alone = found[0].path == CGROUPS
    for one in found:
        if alone:
            _enable_controllers(one.path)
        _enter(one.path / name)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWCGROUP):
        raise ClusterError(f"no namespace for cgroups: {os.strerror(ctypes.get_errno())}")
    if alone:  # one hierarchy cannot be mounted upon itself
        subprocess.run(["umount", "--lazy", str(CGROUPS)], check=True)
    else:
        _mount("tmpfs", CGROUPS, "mode=755")
    for one in found:
        one.path.mkdir(exist_ok=True)
        _mount(one.type, one.path, one.options)
    for link, target in links.items():
        link.symlink_to(target)
    for one in found:
        (one.path / "system").mkdir(exist_ok=True)
        _enter(one.path / "system")


def _hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that are mounted below /sys/fs/cgroup.

    Source: proc(5), mountinfo: after " - " come type, source and the options of the super block.
    """
    roots = set(hierarchies())
    found: dict[Path, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        path, (kind, _, options) = Path(before.split()[4]), after.split()[:3]
        if path in roots and kind in ("cgroup", "cgroup2"):
            named = [one for one in options.split(",") if one not in ("rw", "ro")]
            named = [one for one in named if not one.startswith(("release_agent", "ns"))]
            found[path] = Hierarchy(path, kind, ",".join(named) if kind == "cgroup" else "")
    return list(found.values())


def _enter(folder: Path) -> None:
    """Move this process into a cgroup; a new one of cpuset first needs what its parent has."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own, parent = folder / name, folder.parent / name
        if parent.exists() and own.exists() and not own.read_text().strip():
            own.write_text(parent.read_text())
    (folder / "cgroup.procs").write_text(str(os.getpid()))


def _enable_controllers(root: Path) -> None:
    """Let children of the root have what there is; what they may not have, the kubelet reports."""
    for one in (root / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (root / "cgroup.subtree_control").write_text(f"+{one}")


def _mount_folders() -> None:
    _mount("tmpfs", Path("/run"), "mode=755")
    for top in _OVERLAID:
        upper, work = (Path(f"/run/node{top}/{part}") for part in ("upper", "work"))
        for folder in (upper, work):
            folder.mkdir(parents=True)
        Path(top).mkdir(exist_ok=True)
        _mount("overlay", Path(top), f"lowerdir={top},upperdir={upper},workdir={work}")
    for own in _OWN_TMPFS:
        Path(own).mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", Path(own), "mode=755")
    _mount("bpf", Path("/sys/fs/bpf"), "mode=700")
    for empty in ("/run/netns", "/run/lock", CNI_CONFIGURATION, CNI_PROGRAMS):
        Path(empty).mkdir(parents=True, exist_ok=True)
    # Pods that want to see later mounts of their node need shared ones; of this namespace only.
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


def _mount(kind: str, target: Path, options: str) -> None:
    chosen = ("-o", options) if options else ()
    done = subprocess.run(
        ["mount", "-t", kind, *chosen, "node", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ClusterError(f"{target} cannot be mounted ({kind}, {options}): {done.stderr.strip()}")


def _write_settings(settings: NodeSettings) -> None:
    default = Path(REGISTRY_HOSTS) / "_default"
    default.mkdir(parents=True)
    (default / "hosts.toml").write_text(registry_hosts())
    Path("/etc/resolv.conf").unlink(missing_ok=True)
    Path("/etc/resolv.conf").write_text("")
    Path("/etc/hosts").touch()  # containerd copies it; a minimal machine has none
    Path("/etc/containerd/config.toml").write_text(containerd_configuration())
    shutil.copy(settings.cni_plugin, CNI_PROGRAMS)
    network = Path(CNI_CONFIGURATION) / "10-pods.conflist"
    network.write_text(cni_configuration(settings.node))
    v1 = not (CGROUPS / "cgroup.controllers").exists()
    kubelet = Path("/var/lib/kubelet/config.yaml")
    kubelet.write_text(kubelet_configuration(settings, cgroup_v1=v1))


def _supervise(settings: NodeSettings) -> None:
    commands = {
        "containerd": (settings.containerd, "--config", "/etc/containerd/config.toml"),
        "kubelet": (
            settings.kubelet, "--config", "/var/lib/kubelet/config.yaml",
            "--kubeconfig", settings.kubeconfig, "--hostname-override", settings.node.name,
            "--node-ip", settings.node.address,
        ),
    }  # fmt: skip
    folder, path = Path(settings.folder), Path(settings.containerd).parent
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
    running = {_start(commands["containerd"], folder / "containerd.log", env): "containerd"}
    _wait_for(Path(CONTAINERD_SOCKET), folder / "containerd.log")
    running[_start(commands["kubelet"], folder / "kubelet.log", env)] = "kubelet"
    while True:
        pid, status = os.wait()
        name = running.pop(pid, None)
        if name is not None:
            print(f"{name} ended with {status}, starting it again", flush=True)  # noqa: T201
            time.sleep(_RESTART_PAUSE)
            running[_start(commands[name], folder / f"{name}.log", env)] = name


def _start(words: tuple[str, ...], log: Path, env: dict[str, str]) -> int:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    try:
        return os.posix_spawn(words[0], words, env, file_actions=actions, setsid=True)
    finally:
        os.close(output)


def _wait_for(path: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise ClusterError(f"containerd does not start: see {log}")
        time.sleep(0.02)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
