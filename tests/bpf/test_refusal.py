"""Programs that the verifier does not take."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from penstock.bpf.build import SOURCES, build
from penstock.bpf.capabilities import missing_capabilities

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int pod_connect4(struct bpf_sock_addr *ctx);
SEC("cgroup/connect4") int pod_connect4(struct bpf_sock_addr *ctx) { return ctx ? 7 : 8; }
const char _license[] SEC("license") = "Apache-2.0";
"""


def test_a_machine_whose_kernel_refuses_the_programs_lacks_something(tmp_path: Path) -> None:
    if missing := missing_capabilities():
        pytest.skip("; ".join(missing))
    sources = tmp_path / "sources"
    shutil.copytree(SOURCES / "include", sources / "include")
    (sources / "progs").mkdir()
    (sources / "progs" / "penstock.bpf.c").write_text(REFUSED)
    refused = build(sources=sources, target=tmp_path / "refused.bpf.o")
    (found,) = missing_capabilities(refused)
    assert "refuses the programs, they need Linux" in found
    assert "At program exit the register R0" in found
