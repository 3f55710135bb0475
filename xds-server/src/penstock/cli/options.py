"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.meta.paths import DEFAULT_RUN_DIR


def default_run_dir() -> Path:
    """Return the run folder of the user's instance: /run/penstock for root."""
    if os.geteuid() == 0:
        return DEFAULT_RUN_DIR
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/{os.geteuid()}") / "penstock"  # noqa: S108 - as for XDG_RUNTIME_DIR


RUN_DIR = default_run_dir()
RunDir = Annotated[
    Path, typer.Option("--run-dir", envvar="PENSTOCK_RUN_DIR", help="Run folder of the instance.")
]
LogJson = Annotated[bool, typer.Option("--log-json", help="One JSON object a line.")]
LogLevel = Annotated[
    str, typer.Option("--log-level", help="debug, info, warning or error: the least to log.")
]
