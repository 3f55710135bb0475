"""What this machine can do, and what the agent on it says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.bpf.capabilities import OLDEST_KERNEL, cgroup2_mount, missing_capabilities
from penstock.cli import client
from penstock.cli.checks.finding import Check, Finding, shorten
from penstock.cli.checks.platform import version_of
from penstock.meta.errors import PenstockError
from penstock.meta.paths import RunPaths

KERNEL = Check("PC-KRN-001", "kernel")
PROGRAMS = Check("PC-KRN-002", "eBPF")
CGROUPS = Check("PC-KRN-003", "cgroup v2")
BPFFS = Check("PC-KRN-004", "bpffs")
COOKIES = Check("PC-KRN-005", "network namespaces' cookies")
AGENT = Check("PC-NOD-001", "agent")
CONTROLLER = Check("PC-NOD-002", "controller of this node")
ENVOY = Check("PC-NOD-003", "Envoy of this node")
REFUSED = Check("PC-NOD-004", "what the kernel refused")
REJECTED = Check("PC-NOD-005", "what Envoy rejected")
CHAIN = Check("PC-CNI-002", "CNI configuration")

PLUGIN = "penstock"
"""How the type of our plugin in a CNI configuration begins."""
_SO_NETNS_COOKIE = 71
_COOKIE_SIZE = 8
_USUAL = "/sys/fs/bpf"


def machine() -> Iterator[Finding]:
    """Judge what the machine itself offers."""
    yield _kernel(os.uname().release)
    yield from _datapath(missing_capabilities())
    yield _bpffs()
    yield _cookies()


def node(paths: RunPaths) -> Iterator[Finding]:
    """Judge what the agent of the node says."""
    try:
        status = client.agent(paths).get("/v1/status", dict[str, Any])
    except PenstockError as error:
        yield AGENT.fail(str(error), "look at the log of the agent; it starts within seconds")
        return
    yield from of_status(status)


def of_status(status: dict[str, Any]) -> Iterator[Finding]:
    """Judge an answer to GET /v1/status of an agent."""
    pods = status.get("pods") or []
    policed = [one for one in pods if one.get("policed", True)]
    closed = [one["name"] for one in policed if one.get("identity") is None]
    text = f"node {status.get('node', '?')}, {len(policed)} pods captured"
    if closed:
        names = shorten(closed)
        yield AGENT.warn(
            f"{text}, of which closed: {names}", "the controller tells nothing of them", closed
        )
    else:
        yield AGENT.ok(text)
    if status.get("controller_connected"):
        yield CONTROLLER.ok("connected")
    else:
        yield CONTROLLER.warn(
            "not connected; the last state stays in force", "the log of the agent says why"
        )
    yield _envoy(status)
    failures: dict[str, str] = status.get("failures") or {}
    if failures:
        said = [f"{what}: {why}" for what, why in sorted(failures.items())]
        hint = "what is concerned is closed; the agent tries again by itself"
        yield REFUSED.fail(shorten(said), hint, said)
    else:
        yield REFUSED.ok("nothing")
    yield _rejected(status)


def chain(folder: Path) -> Finding:
    """Judge whether the configuration that a container runtime uses has our plugin."""
    files = sorted([*folder.glob("*.conflist"), *folder.glob("*.conf")])
    if not files:
        return CHAIN.fail(f"{folder}: no network is configured", "install a network plugin first")
    try:
        read = msgspec.json.decode(files[0].read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        return CHAIN.fail(f"{files[0]}: {error}", "mend the file of the network plugin")
    types = [str(one.get("type")) for one in read.get("plugins") or []]
    found = f"{files[0].name}: {', '.join(types) or 'one plugin, no list'}"
    if types and types[-1].startswith(PLUGIN):
        return CHAIN.ok(found)
    return CHAIN.fail(
        f"{found}; the last one is not ours, so new pods are not captured",
        "the agent puts the plugin at the end within seconds; its log says why it does not",
    )


def _kernel(release: str) -> Finding:
    if version_of(release) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return KERNEL.fail(release, f"nodes need Linux {oldest} or newer")
    return KERNEL.ok(release)


def _datapath(missing: Sequence[str]) -> Iterator[Finding]:
    mount = cgroup2_mount()
    others = [line for line in missing if "cgroup v2" not in line and "bpffs" not in line]
    if others:
        yield PROGRAMS.fail("; ".join(others), "without eBPF only Gateways work")
    else:
        yield PROGRAMS.ok("programs can be loaded")
    if mount is None:
        yield CGROUPS.fail("not mounted", "mount -t cgroup2 none /sys/fs/cgroup/unified")
    else:
        yield CGROUPS.ok(f"mounted at {mount}")


def _bpffs() -> Finding:
    if "\tbpf\n" not in Path("/proc/filesystems").read_text("ascii"):
        return BPFFS.fail("unknown to the kernel", "use a kernel with CONFIG_BPF_SYSCALL")
    lines = Path("/proc/self/mountinfo").read_text("ascii", "replace").splitlines()
    mounts = [line.split() for line in lines]
    places = [one[4] for one in mounts if one[one.index("-") + 1] == "bpf"]
    if not places:
        return BPFFS.warn("not mounted", f"mount -t bpf bpf {_USUAL}, before agents start")
    return BPFFS.ok(f"mounted at {_USUAL if _USUAL in places else places[0]}")


def _cookies() -> Finding:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, _COOKIE_SIZE)
    except OSError as error:
        return COOKIES.fail(str(error), "use Linux 5.14 or newer")
    return COOKIES.ok("known to the kernel")


def _envoy(status: dict[str, Any]) -> Finding:
    envoy = status.get("envoy") or {}
    if status.get("envoy_connected"):
        return ENVOY.ok(f"connected, {envoy.get('state', 'unknown')}")
    return ENVOY.fail(
        f"not connected ({envoy.get('state', 'unknown')}): requests are refused",
        "look at the pod penstock-envoy of this node, and its log",
    )


def _rejected(status: dict[str, Any]) -> Finding:
    resources: dict[str, Any] = status.get("resources") or {}
    count = sum(int(one.get("rejected") or 0) for one in resources.values())
    if count:
        return REJECTED.fail(
            f"{count} resources", "the status of the object says why: condition DataPlaneAcked"
        )
    return REJECTED.ok("nothing")
