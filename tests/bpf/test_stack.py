"""What the kernel's own verifier says of the programs' stack, beside what is computed for 6.1."""

from __future__ import annotations

import ctypes
import os
import re

import pytest

from penstock.bpf.build import OBJECT
from penstock.bpf.libbpf import SONAME
from support.bpf_calls import Function, functions

STATISTICS = 4
"""BPF_LOG_STATS."""
LOG_SIZE = 1 << 20


def counted() -> dict[str, list[int]]:
    """Load the programs and return the depths that the verifier tells of each and of its calls."""
    libbpf = ctypes.CDLL(SONAME)
    for name in ("bpf_object__open_file", "bpf_object__next_program"):
        getattr(libbpf, name).restype = ctypes.c_void_p
    libbpf.bpf_program__name.restype = ctypes.c_char_p
    opened = ctypes.c_void_p(libbpf.bpf_object__open_file(os.fsencode(OBJECT), None))
    logs: dict[str, ctypes.Array[ctypes.c_char]] = {}
    program = ctypes.c_void_p()
    try:
        while found := libbpf.bpf_object__next_program(opened, program):
            program = ctypes.c_void_p(found)
            log = ctypes.create_string_buffer(LOG_SIZE)
            libbpf.bpf_program__set_log_level(program, STATISTICS)
            libbpf.bpf_program__set_log_buf(program, log, ctypes.c_size_t(LOG_SIZE))
            logs[libbpf.bpf_program__name(program).decode()] = log
        assert libbpf.bpf_object__load(opened) == 0
    finally:
        libbpf.bpf_object__close(opened)
    line = re.compile(rb"^stack depth (\S+)", re.MULTILINE)
    said = {name: line.search(log.value) for name, log in logs.items()}
    return {name: [int(depth) for depth in one[1].split(b"+")] for name, one in said.items() if one}


def reached(found: dict[str, Function], name: str) -> set[str]:
    """Return *name* and the functions that it calls, directly or not."""
    return {name}.union(*(reached(found, called) for called in found[name].calls))


@pytest.mark.usefixtures("topology")
def test_no_frame_is_larger_than_what_is_computed() -> None:
    found, told = functions(OBJECT), counted()
    assert told.keys() == {name for name, one in found.items() if one.is_program}
    for name, depths in told.items():
        # Verifiers since 6.8 tell multiples of 8.
        computed = sorted(-(-found[one].depth // 8) * 8 for one in reached(found, name))
        pairs = zip(sorted(depths), computed, strict=True)
        assert all(depth <= most for depth, most in pairs), (name, depths, computed)
