"""Compilation of the programs, with a compiler that is a script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from penstock.bpf.build import SOURCES, build
from penstock.bpf.capabilities import missing_capabilities
from penstock.bpf.errors import BuildError

COMPILER = """#!/bin/sh
test "$1" = --version && { echo "$VERSION"; exit 0; }
echo called >> "$(dirname "$0")/calls"
for last; do :; done
case "$OUTCOME" in
  ok) echo object > "$last" ;;
  *) echo "x.h:1: fatal error: 'bpf/bpf_helpers.h' file not found" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "cc"
    script.write_text(COMPILER, "ascii")
    script.chmod(0o755)
    monkeypatch.setenv("OUTCOME", "ok")
    monkeypatch.setenv("VERSION", "1")
    return script


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    copy = tmp_path / "sources"
    for folder in ("progs", "include"):
        shutil.copytree(SOURCES / folder, copy / folder)
    return copy


def calls(compiler: Path) -> int:
    log = compiler.with_name("calls")
    return len(log.read_text("ascii").split()) if log.exists() else 0


def test_object_that_is_up_to_date_is_not_compiled_again(
    compiler: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "objects" / "p.bpf.o"
    for _ in range(2):
        assert build(sources=sources, target=target, clang=str(compiler)) == target
    assert calls(compiler) == 1
    (sources / "progs" / "policy.h").write_text("changed", "ascii")
    build(sources=sources, target=target, clang=str(compiler))
    assert calls(compiler) == 2
    monkeypatch.setenv("VERSION", "2")
    build(sources=sources, target=target, clang=str(compiler))
    assert calls(compiler) == 3
    target.unlink()
    build(sources=sources, target=target, clang=str(compiler))
    assert calls(compiler) == 4


def test_failed_compilation_keeps_the_old_object_and_names_the_remedy(
    compiler: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "p.bpf.o"
    build(sources=sources, target=target, clang=str(compiler))
    monkeypatch.setenv("OUTCOME", "missing header")
    (sources / "include" / "penstock" / "abi.h").write_text("changed", "ascii")
    with pytest.raises(BuildError, match="apt-get install clang libbpf-dev linux-libc-dev"):
        build(sources=sources, target=target, clang=str(compiler))
    assert target.read_text("ascii") == "object\n"
    with pytest.raises(BuildError):
        build(sources=sources, target=target, clang=str(compiler))


def test_missing_compiler_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no-such-clang: not found.*apt-get install clang"):
        build(target=tmp_path / "p.bpf.o", clang="no-such-clang")


def test_missing_sources_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="built from a source tree only"):
        build(sources=tmp_path, target=tmp_path / "p.bpf.o")


def test_missing_object_is_a_missing_capability(tmp_path: Path) -> None:
    missing = missing_capabilities(tmp_path / "p.bpf.o")
    assert any("is not built: python -m penstock.bpf.build" in line for line in missing)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_setup_is_done_again_when_a_program_has_changed() -> None:
    command = ("make", "--dry-run", "--print-data-base", "setup")
    done = subprocess.run(command, cwd=SOURCES.parent, check=True, capture_output=True, text=True)
    (rule,) = (line for line in done.stdout.splitlines() if line.startswith(".venv/.installed:"))
    programs = {f"bpf/{path.relative_to(SOURCES)}" for path in SOURCES.rglob("*.[ch]")}
    assert programs <= set(rule.split())
