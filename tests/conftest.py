"""Options of the whole suite."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from hypothesis import settings

from support.leftovers import begin_run

ROOT = Path(__file__).parents[1]

# As in a controller: in a copy of the process gRPC would start threads, and complain.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# The same examples each time, so that a run tells of the change and not of luck; `make explore` has
# others each time.
settings.register_profile("same", derandomize=True)
settings.register_profile("others", derandomize=False)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-rewrite",
        action="store_true",
        help="write the golden files anew instead of comparing; review the diff",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A change may need more of Envoy's messages than were generated before it came.
    if not hasattr(config, "workerinput"):
        begin_run()
        runpy.run_path(str(ROOT / "xds-server" / "protogen.py"))["generate"]()
    if config.getoption("--golden-rewrite") and os.environ.get("CI", "").lower() in ("1", "true"):
        raise pytest.UsageError("--golden-rewrite is for people: in CI golden files are compared")


@pytest.hookimpl(trylast=True)  # the marker comes from the plugin
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Hypothesis looks for up to five minutes for a smaller example of what failed.
    for item in items:
        if item.get_closest_marker("hypothesis") is not None:
            item.add_marker(pytest.mark.timeout(600))
