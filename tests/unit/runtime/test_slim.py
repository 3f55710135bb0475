"""Imports without what nobody uses, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def said(code: str) -> str:
    words = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_structlog_comes_without_rich_which_can_be_imported_later() -> None:
    code = (
        "import sys; from penstock.runtime.slim import import_structlog; import_structlog();"
        "print('structlog' in sys.modules, 'rich' in sys.modules, end=' ');"
        "import rich.console; print(rich.console.Console.__name__)"
    )
    assert said(code) == "True False Console"


def test_rich_stays_if_it_is_there() -> None:
    code = (
        "import sys, rich; from penstock.runtime.slim import import_structlog; import_structlog();"
        "print(sys.modules['rich'] is rich)"
    )
    assert said(code) == "True"


@pytest.mark.parametrize("before", ["", "os.environ['SSL_CERT_FILE'] = '/mine';"])
def test_aiohttp_reads_no_authorities_and_the_environment_stays(before: str) -> None:
    code = (
        f"import os, ssl; {before} was = dict(os.environ); made = [];"
        "from penstock.runtime.slim import import_aiohttp; import_aiohttp();"
        "import aiohttp.connector as c;"
        "print(c._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509'], was == dict(os.environ),"
        " c._SSL_CONTEXT_VERIFIED.verify_mode.name)"
    )
    assert said(code) == "0 True CERT_REQUIRED"
