"""How much of the machine a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.runtime.allowance import memory_left, processors, resident


@pytest.mark.parametrize(
    ("text", "most"), [("max 100000\n", None), ("50000 100000\n", 0.5), ("odd", None)]
)
def test_processors_are_those_that_a_limit_leaves(
    tmp_path: Path, text: str, most: float | None
) -> None:
    every = float(len(os.sched_getaffinity(0)))
    assert processors(tmp_path) == every
    (tmp_path / "cpu.max").write_text(text)
    assert processors(tmp_path) == (every if most is None else most)


def test_memory_is_left_up_to_a_limit(tmp_path: Path) -> None:
    assert memory_left(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("3000\n")
    for text, left in (("max\n", float("inf")), ("10000\n", 7000.0), ("odd", float("inf"))):
        (tmp_path / "memory.max").write_text(text)
        assert memory_left(tmp_path) == left


def test_a_process_is_in_memory() -> None:
    before = resident()
    held = os.urandom(32 << 20)
    assert 1 << 20 < before < resident() - len(held) // 2
