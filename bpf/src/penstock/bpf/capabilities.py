"""What this machine lacks for the eBPF datapath."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from penstock.bpf.build import OBJECT
from penstock.bpf.errors import DatapathError
from penstock.bpf.libbpf import BpfObject, library

NO_CGROUP2 = "no cgroup v2 is mounted; mount it: mount -t cgroup2 none /sys/fs/cgroup/unified"

OLDEST_KERNEL = (6, 1)
"""The oldest one that the programs were tried on."""

_MAP_TYPE_ARRAY = 2
_PROG_TYPE_CGROUP_SOCK_ADDR = 18
_PROG_TYPE_SK_LOOKUP = 30
_HELPER_SK_ASSIGN = 124
_HELPER_SET_RETVAL = 187


def cgroup2_mounts() -> list[Path]:
    """Return where cgroup v2 is mounted, also beside v1; in a container that may be several."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text("ascii", "replace").splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            found.append(Path(fields[4].replace("\\040", " ")))
    return found


def cgroup2_mount() -> Path | None:
    """Return where cgroup v2 is mounted, also beside v1; None if it is not."""
    mounts = cgroup2_mounts()
    return mounts[0] if mounts else None


def missing_capabilities(object_file: Path = OBJECT) -> list[str]:
    """Return one line for each thing that is missing; empty if the datapath can run."""
    missing: list[str] = []
    if os.geteuid() != 0:
        missing.append("not root: loading eBPF and entering network namespaces needs it")
    if cgroup2_mount() is None:
        missing.append(NO_CGROUP2)
    if not Path("/proc/self/ns/net").exists():
        missing.append("the kernel has no network namespaces (CONFIG_NET_NS)")
    if "\tbpf\n" not in Path("/proc/filesystems").read_text("ascii"):
        missing.append("the kernel has no bpffs (CONFIG_BPF_SYSCALL)")
    if not object_file.is_file():
        missing.append(f"{object_file} is not built: python -m penstock.bpf.build")
    try:
        missing += _kernel()
    except DatapathError as error:
        missing.append(str(error))
    return missing or _refused(object_file)


def _kernel() -> list[str]:
    """Return what bpf() refuses."""
    bpf = library()
    try:
        os.close(bpf.call("bpf_map_create", _MAP_TYPE_ARRAY, None, 4, 4, 1, None, what="bpf()"))
    except DatapathError as error:
        return [f"{error}: eBPF is not permitted here"]
    probe = bpf.function("libbpf_probe_bpf_helper")
    if probe(_PROG_TYPE_CGROUP_SOCK_ADDR, _HELPER_SET_RETVAL, None) != 1:
        return ["the kernel is older than 5.18 (no bpf_set_retval) or built without CGROUP_BPF"]
    if probe(_PROG_TYPE_SK_LOOKUP, _HELPER_SK_ASSIGN, None) != 1:
        return ["the kernel has no sk_lookup programs (Linux 5.9)"]
    return []


def _refused(object_file: Path) -> list[str]:
    """Load the programs as they are and let go of them: what a verifier takes only it knows."""
    try:
        BpfObject(object_file, pins=None).close()
    except DatapathError as error:
        oldest, release = ".".join(map(str, OLDEST_KERNEL)), os.uname().release
        needed = f"they need Linux {oldest} or newer"
        return [f"the kernel ({release}) refuses the programs, {needed}: {_reason(str(error))}"]
    return []


def _reason(text: str) -> str:
    """Return the verifier's own sentence of what libbpf says: it stands before the statistics."""
    lines = text.splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("processed "):
            return before
    return lines[-1]
