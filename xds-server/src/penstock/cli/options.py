"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import click
from typing_extensions import override

from penstock.cli.formats import Format
from penstock.meta.paths import DEFAULT_RUN_DIR, RunPaths

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


def default_run_dir() -> Path:
    """Return the run folder of the user's instance: /run/penstock for root."""
    if os.geteuid() == 0:
        return DEFAULT_RUN_DIR
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/{os.geteuid()}") / "penstock"  # noqa: S108 - as for XDG_RUNTIME_DIR


class _RunFolder(click.ParamType[RunPaths]):
    """The run folder of an instance, absolute."""

    name = "path"

    @override
    def convert(
        self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> RunPaths:
        """Return the paths in it."""
        return RunPaths(Path(value).resolve())


def one_of(values: type[StrEnum]) -> click.Choice[StrEnum]:
    """Return the type of an option that is one of *values*, in any case."""
    return click.Choice(values, case_sensitive=False)


run_dir = click.option(
    "--run-dir",
    "paths",
    type=_RunFolder(),
    default=str(default_run_dir()),
    show_default=True,
    envvar="PENSTOCK_RUN_DIR",
    show_envvar=True,
    help="Run folder of the instance.",
)
output = click.option(
    "--output",
    "-o",
    type=one_of(Format),
    default=Format.TABLE.value,
    show_default=True,
    help="How to show it.",
)
namespace = click.option("--namespace", "-n", default="", help="Namespace; all if not given.")
kubeconfig = click.option("--kubeconfig", type=PATH, help="Of the cluster; else $KUBECONFIG.")
context = click.option("--context", default="", help="Of the kubeconfig.")
system_namespace = click.option(
    "--namespace",
    "-n",
    default="penstock-system",
    show_default=True,
    help="Where Penstock runs.",
)
_log_json = click.option("--log-json", is_flag=True, help="One JSON object a line.")
_log_level = click.option(
    "--log-level",
    default="info",
    show_default=True,
    help="debug, info, warning or error: the least to log.",
)


def logging(command: F) -> F:
    """Add the options of what a process logs, `log_level` and `log_json`."""
    return _log_level(_log_json(command))
