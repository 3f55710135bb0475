"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-rewrite",
        action="store_true",
        help="write the golden files anew instead of comparing; review the diff",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--golden-rewrite") and os.environ.get("CI", "").lower() in ("1", "true"):
        raise pytest.UsageError("--golden-rewrite is for people: in CI golden files are compared")
