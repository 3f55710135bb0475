"""The stack of the programs, counted in the compiled object as Linux 6.1 counts it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.bpf.build import OBJECT, build
from support.bpf_calls import Function, UnreadableObjectError, functions
from support.kernel_stack import MOST_FRAMES, refusals

needs_clang = pytest.mark.skipif(
    shutil.which("clang") is None, reason="clang compiles the programs: apt-get install clang"
)

FOR_OTHER_COMPILERS = 32
"""Bytes: by so much chains differ between clang 14, 16, 19 and 22, which may make an image."""


def compiled(folder: Path, source: str) -> Path:
    """Return the object of a source of its own, compiled as the programs are."""
    text = f"""
#define SEC(name) __attribute__((section(name), used))
#define NOINLINE static __attribute__((noinline))
static long (*const trace)(const char *, unsigned) = (void *)6;
static long (*const tail)(void *, void *, unsigned) = (void *)12;
static long (*const loop)(unsigned, void *, void *, unsigned long) = (void *)181;
{source}
"""
    (folder / "p.c").write_text(text, "ascii")
    object_file = folder / "p.o"
    command = ("clang", "-target", "bpf", "-O2", "-g", "-c", "p.c", "-o", str(object_file))
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return object_file


def function(name: str, depth: int, *calls: str, tail: bool = False) -> Function:
    return Function(name, name.startswith("main"), depth, calls, tail)


def refused(*found: Function) -> list[str]:
    return refusals({one.name: one for one in found})


@needs_clang
def test_linux_6_1_takes_every_chain_of_calls_of_the_programs() -> None:
    build()
    found = functions(OBJECT)
    assert {"pod_connect4", "pod_inbound", "policy_judge"} <= found.keys()
    assert "policy_judge" in found["connect_decide"].calls
    lines = "\n".join(refusals(found, spare=FOR_OTHER_COMPILERS))
    assert not lines, f"Linux 6.1 refuses what needs more stack; make a frame smaller:\n{lines}"


@needs_clang
def test_chain_of_calls_that_is_too_deep_is_named_with_its_frames(tmp_path: Path) -> None:
    found = functions(
        compiled(
            tmp_path,
            """
            NOINLINE int inner(int x) { char b[200]; trace(b, x); return b[x & 7]; }
            NOINLINE int outer(int x) { char b[240]; trace(b, x); return b[x & 7] + inner(x + 1); }
            SEC("socket") int deep(void *c) { char b[64]; trace(b, 3); return b[2] + outer(b[1]); }
            SEC("socket") int flat(void *c) { return inner(7); }
            """,
        )
    )
    assert found["deep"].calls == ("outer",)
    assert found["flat"].depth == 0
    assert refusals(found) == [
        "deep (64) -> outer (256) -> inner (224): 544 bytes of stack, 512 are allowed"
    ]


@needs_clang
def test_callbacks_and_tail_calls_are_found(tmp_path: Path) -> None:
    found = functions(
        compiled(
            tmp_path,
            """
            NOINLINE int last(int x) { char b[40]; trace(b, x); return b[x & 7]; }
            static int again(unsigned i, void *at) { char b[300]; trace(b, i); return b[2]; }
            static int once(unsigned i, void *at) { return last(i); }
            NOINLINE int jump(void *c) { tail(c, c, 1); return 2; }
            SEC("socket") int both(void *c) {
                char b[260];
                trace(b, 1);
                return loop(9, again, b, 0) + loop(9, once, b, 0) + jump(c);
            }
            """,
        )
    )
    assert found["both"].calls == ("again", "jump", "once")
    assert found["once"].calls == ("last",)
    assert [name for name, one in found.items() if one.has_tail_call] == ["jump"]
    callback, tail_call = refusals(found)
    assert callback == "both (288) -> again (320): 608 bytes of stack, 512 are allowed"
    reason = "288 bytes of stack before jump, which makes a tail call, 255 are allowed"
    assert tail_call == f"both (288) -> jump (32): {reason}"


def test_frames_are_rounded_up_to_32_and_a_function_without_one_counts_too() -> None:
    assert refused(function("main", 449, "a"), function("a", 0)) == []
    assert refused(function("main", 481, "a"), function("a", 0)) == [
        "main (512) -> a (32): 544 bytes of stack, 512 are allowed"
    ]


def test_what_two_programs_share_is_counted_for_each() -> None:
    shared = function("shared", 200)
    small, large = function("main_small", 250, "shared"), function("main_large", 400, "shared")
    assert refused(small, large, shared) == [
        "main_large (416) -> shared (224): 640 bytes of stack, 512 are allowed"
    ]


def test_eight_frames_are_the_most() -> None:
    def row(length: int) -> list[Function]:
        names = ["main", *(f"f{index}" for index in range(1, length)), ""]
        return [function(name, 8, *names[at + 1 :][:1]) for at, name in enumerate(names[:-2])] + [
            function(names[-2], 8)
        ]

    assert refused(*row(MOST_FRAMES)) == []
    (line,) = refused(*row(MOST_FRAMES + 1))
    assert line.endswith("f8 (32): 9 frames, 8 are allowed")


def test_recursion_is_named_and_ends() -> None:
    assert refused(function("main", 8, "a"), function("a", 8, "b"), function("b", 8, "a")) == [
        "main (32) -> a (32) -> b (32) -> a (32): a calls itself"
    ]


def test_a_program_that_makes_a_tail_call_itself_may_use_all_of_the_stack() -> None:
    assert refused(function("main", 512, tail=True)) == []
    assert refused(function("main", 224, "a"), function("a", 288, tail=True)) == []


def test_what_is_no_object_for_bpf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.o"
    file.write_bytes(b"\x7fELF\x01\x01 and so on")
    with pytest.raises(UnreadableObjectError, match="not an ELF64 object"):
        functions(file)
