"""The start of the controller."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable

import pytest

from penstock.controlplane.app import START_SECONDS, spare_collector


def test_garbage_is_not_kept_for_ever_while_there_is_no_first_snapshot() -> None:
    later: dict[float, Callable[[], None]] = {}
    try:
        spare_collector(later.__setitem__)
        assert not gc.isenabled()
        later[START_SECONDS]()
        assert gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("later", ["cryptography", "google.protobuf", "grpc", "rich", "yaml"])
def test_what_only_serving_needs_is_not_imported_before_the_api_server_is_asked(later: str) -> None:
    code = (
        "import sys; from penstock.runtime.slim import import_aiohttp, import_structlog;"
        "import_structlog(); import_aiohttp(); import penstock.controlplane.app;"
        f"print({later!r} in sys.modules, 'penstock.sources.kubernetes.source' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["False", "True"]
