"""What this process may not do that a lab needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from penstock.lab import cgroups, syscalls

_PRIVILEGED = "a container needs --privileged and a writable cgroup v2"
_NEEDED = {
    12: "CAP_NET_ADMIN: to make network namespaces and their links",
    21: "CAP_SYS_ADMIN: to make namespaces and mounts",
}
_FOLDER = str(Path(syscalls.__file__).parent)
_TRY = f"import sys; sys.path.insert(0, {_FOLDER!r}); import syscalls as s; "
_TRY_NAMESPACES = _TRY + "s.unshare(s.CLONE_NEWNS | s.CLONE_NEWUTS | s.CLONE_NEWNET)"
_TRY_MOUNT = _TRY + (
    "s.unshare(s.CLONE_NEWNS); s.keep_mounts_apart(); s.mount('penstock', '/tmp', 'tmpfs')"
)


def missing_rights() -> list[str]:
    """Return one line for each thing that is missing; none if a lab can run here.

    Nothing stays behind: what is tried, is tried in a child process.
    """
    lines = [
        *(f"missing {text}" for bit, text in _NEEDED.items() if not _effective() >> bit & 1),
        *_missing_cgroup(),
    ]
    if not lines:
        lines += _tried(_TRY_NAMESPACES, "cannot make namespaces")
        lines += _tried(_TRY_MOUNT, "cannot mount")
    if lines and os.geteuid() != 0:
        lines.insert(0, f"running as user {os.geteuid()}: run as root, as in `sudo penstock up`")
    return lines


def _effective() -> int:
    """Return this process's effective capabilities as bits. Source: proc(5)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _missing_cgroup() -> list[str]:
    try:
        root = cgroups.mount_point()
    except cgroups.CgroupError as error:
        return [str(error)]
    probe = root / f"penstock-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return [f"cannot make a cgroup in {root}: {error.strerror}; {_PRIVILEGED}"]
    return []


def _tried(code: str, failure: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return []
    reason = (done.stderr.strip().splitlines() or ["unknown"])[-1]
    return [f"{failure}: {reason}; {_PRIVILEGED}"]
