"""A folder of objects becomes exactly these resources and these statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import golden


@pytest.mark.parametrize("name", golden.case_names())
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    case = golden.compiled(name)
    folder = golden.CASES / name
    rewrite = bool(request.config.getoption("--golden-rewrite"))
    _compare(folder / "xds.yaml", golden.as_text(golden.resources_as_data(case)), rewrite=rewrite)
    _compare(folder / "status.yaml", golden.as_text(golden.statuses_as_data(case)), rewrite=rewrite)


def _compare(file: Path, text: str, *, rewrite: bool) -> None:
    if rewrite:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return
    assert file.read_text() == text, f"{file} differs; `make golden` rewrites it, review the diff"


def test_golden_files_are_not_rewritten_in_ci() -> None:
    run = [sys.executable, "-m", "pytest", "-q", "--golden-rewrite", "--collect-only", __file__]
    done = subprocess.run(
        run, env={"CI": "true", "PYTHONPATH": ":".join(sys.path)}, cwd=golden.ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "in CI golden files are compared" in done.stderr
