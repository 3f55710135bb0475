"""End to end: `penstock` as its users run it. Without rights the tests are skipped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.bpf.capabilities import missing_capabilities
from penstock.lab.rights import missing_rights
from support.penstock_process import ROOT, Penstock


@pytest.fixture
def penstock() -> Iterator[Penstock]:
    """An instance on the shop that does not run yet; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="pe2e-") as scratch:
        found = Penstock(Path(scratch))
        shutil.copytree(ROOT / "examples" / "shop", found.folder)
        try:
            yield found
        finally:
            found.clean()


@pytest.fixture
def rights() -> None:
    """Skip where the whole mesh cannot run."""
    missing = missing_rights() or missing_capabilities()
    if missing:
        pytest.skip(missing[0])
