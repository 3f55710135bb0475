"""Kernel tests: root, network namespaces and cgroups of their own."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator

import pytest

from penstock.bpf.build import build
from penstock.bpf.capabilities import missing_capabilities
from penstock.bpf.datapath import Datapath
from support.kernel_node import PODS, Node
from support.topology import Topology, write_sysctls


@pytest.fixture(scope="session", autouse=True)
def many_files() -> None:
    """Let tests open as many files as they may; a login starts with 1024, and some need more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture(scope="session")
def topology() -> Iterator[Topology]:
    if shutil.which("clang") is not None:
        build()
    if missing := missing_capabilities():
        pytest.skip("; ".join(missing))
    with Topology(PODS) as made:
        for pod in made.pods.values():
            # What a test has closed would answer the next SYN from the same port, which then comes
            # twice, as do the events of it.
            write_sysctls(pod.netns, {"ipv4/tcp_max_tw_buckets": "0"})
        yield made


@pytest.fixture
def node(topology: Topology) -> Iterator[Node]:
    """A node with all pods registered, attached and open, and the in-pod listeners there."""
    bpffs = topology.folder / "bpf"
    made = Node(topology, bpffs)
    try:
        made.start()
        yield made
    finally:
        made.close()
        Datapath.remove(bpffs)
