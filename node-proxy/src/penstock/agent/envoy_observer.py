"""The node's Envoy where Kubernetes starts it: a pod of its own, found and given its programs.

Theory of operation. The shell line that starts Envoy (`envoy_start`) writes the uid of its pod and
waits; the agent attaches the programs for Envoy to that cgroup and says so; then Envoy starts.
A container that is started again in the same pod finds the answer there and does not wait, so it
needs no agent. A new pod takes the place of the old one.

An Envoy that runs in a pod without having the programs, because they were taken away under it, is
told to end: its listeners are unknown to the kernel's part, and it may not bind those of pods. Its
container starts again, and waits.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from penstock.agent.admin import AdminUnavailableError, EnvoyAdmin
from penstock.agent.envoy_process import EnvoyStatus, ProcessState
from penstock.agent.kubepods import Kubepods, inodes, named_namespaces, namespace_of, uid_in
from penstock.meta.errors import PenstockError
from penstock.meta.paths import NODE_NETNS, RunPaths
from penstock.runtime.files import replace_file, replace_link
from penstock.runtime.processes import start_ticks

LOOK_SECONDS = 0.2
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred
OWN_NETNS = Path("/proc/self/ns/net")

log = structlog.get_logger(__name__)


def envoy_pid(admin: Path) -> int | None:
    """Return the process that listens on the admin socket; None if nobody does.

    The kernel tells who called listen(), as our process namespace knows it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(admin))
            raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid or None


class EnvoyObserver:
    """Stands where `EnvoyProcess` stands, for an Envoy that others start."""

    def __init__(
        self,
        paths: RunPaths,
        kubepods: Kubepods,
        attach: Callable[[Path], None],
        *,
        netns_folder: Path,
    ) -> None:
        """Look for Envoy from `run` on.

        Args:
            paths: of the instance, which Envoy's pod shares.
            kubepods: where pods have their cgroups.
            attach: attaches the programs for Envoy to a cgroup.
            netns_folder: where the container runtime keeps network namespaces.
        """
        self._netns_folder = netns_folder
        self._paths = paths
        self._kubepods = kubepods
        self._attach = attach
        self._attached = ""
        self._cgroup: Path | None = None
        self._refused = ""
        self._pid: int | None = None
        self._ticks: int | None = None
        self._since = 0.0
        self._starts = 0
        self._sought = 0
        """How many starts there had been when the namespace of Envoy's pod was last looked for."""

    @property
    def home(self) -> Path | None:
        """Return the network namespace of Envoy's pod, by the name that the runtime gave it."""
        link = self._paths.netns / NODE_NETNS
        target = link.readlink() if link.is_symlink() else None
        return target if target is not None and target.parent == self._netns_folder else None

    @property
    def netns(self) -> Path:
        """Return the network namespace from which Gateways dial: that of Envoy's pod."""
        if self.home is not None:
            return self.home
        return Path(f"/proc/{self._pid}/ns/net") if self._pid else OWN_NETNS

    def cgroups(self) -> frozenset[int]:
        """Return the ids of the cgroups that Envoy's sockets are in."""
        return inodes(self._cgroup) if self._cgroup else frozenset()

    def status(self) -> EnvoyStatus:
        """Return what was seen last."""
        return EnvoyStatus(
            state=ProcessState.RUNNING if self._pid else ProcessState.WAITING,
            pid=self._pid,
            uptime=time.monotonic() - self._since if self._pid else 0.0,
            restarts=max(0, self._starts - 1),
            adopted=True,
        )

    async def run(self) -> None:
        """Look until cancelled."""
        self.take_up()
        while True:
            self._admit()
            await self._observe()
            self._keep_home()
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self, *, drain: float = 0.0) -> None:
        """Do nothing: Kubernetes ends it."""

    def take_up(self) -> None:
        """Go on with the Envoy that an earlier agent has admitted, if its pod is still there."""
        uid = _read(self._paths.envoy_admitted)
        cgroup = self._kubepods.find(uid) if uid else None
        if cgroup is not None and self._give(uid, cgroup) and self.home is None:
            self._name_home(cgroup)

    def _admit(self) -> None:
        """Attach the programs to the pod that asks, and let it go on."""
        uid = _read(self._paths.envoy_asking)
        if not uid or uid == self._attached:
            return
        cgroup = self._kubepods.find(uid)
        if cgroup is None:
            self._refuse(f"there is no cgroup of pod {uid} below {self._kubepods.root}")
            return
        if self._give(uid, cgroup):
            self._name_home(cgroup)
            replace_file(self._paths.envoy_admitted, f"{uid}\n".encode())
            log.info("envoy admitted", pod=uid, cgroup=str(cgroup))

    def _give(self, uid: str, cgroup: Path) -> bool:
        try:
            self._attach(cgroup)
        except (OSError, PenstockError) as error:
            self._refuse(str(error))
            return False
        self._attached, self._cgroup, self._refused = uid, cgroup, ""
        return True

    def _name_home(self, cgroup: Path) -> None:
        """Let `netns/node` be the namespace of Envoy's pod, wherever threads of Envoy may be."""
        self._sought = self._starts
        inode = namespace_of(cgroup, last=envoy_pid(self._paths.envoy_admin))
        found = named_namespaces(self._netns_folder).get(inode)
        if found is None:
            log.warning(
                "envoy's pod has no named network namespace; Gateways dial from where envoy is",
                cgroup=str(cgroup), folder=str(self._netns_folder),
            )  # fmt: skip
        replace_link(self._paths.netns / NODE_NETNS, found or OWN_NETNS)

    def _keep_home(self) -> None:
        """Name it anew if the sandbox of the pod is another one now.

        Between the two there is no process to tell it by: then the next start of Envoy is one.
        """
        lost = self._starts > self._sought if self.home is None else not self.home.exists()
        if self._cgroup is not None and lost:
            self._name_home(self._cgroup)

    def _refuse(self, reason: str) -> None:
        if reason != self._refused:
            log.warning("envoy has to wait", reason=reason)
            self._refused = reason

    async def _observe(self) -> None:
        if self._pid is not None and start_ticks(self._pid) == self._ticks:
            return
        pid = envoy_pid(self._paths.envoy_admin)
        if pid is not None and (uid := _pod_of(pid)) and uid != self._attached:
            await self._end(pid, uid)
            pid = None
        self._ticks = None if pid is None else start_ticks(pid)
        if pid == self._pid is None:
            return
        if pid is not None:
            self._starts += 1
            self._since = time.monotonic()
            log.info("envoy seen", pid=pid)
        else:
            log.warning("envoy is away", pid=self._pid)
        self._pid = pid

    async def _end(self, pid: int, uid: str) -> None:
        log.warning("envoy has not our programs and has to start again", pid=pid, pod=uid)
        try:
            await EnvoyAdmin(self._paths.envoy_admin).post("quitquitquit")
        except AdminUnavailableError as error:
            log.warning("envoy does not end", reason=str(error))


def _pod_of(pid: int) -> str:
    """Return the uid of the pod in whose cgroup a process is; "" if it is in none."""
    return uid_in(_read(Path(f"/proc/{pid}/cgroup")))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
