from __future__ import annotations

import os
import subprocess
import sys

import pytest

from penstock.cli.commands import app
from penstock.meta.version import VERSION

HEAVY = {
    *("aiohttp", "asyncio", "google", "grpc", "pyroute2", "re2", "structlog"),
    *("watchfiles", "yaml", "penstock.agent", "penstock.compiler", "penstock.controlplane"),
    *("penstock.core", "penstock.lab", "penstock.pb", "pydantic", "rich"),
}


def imported_by(code: str) -> set[str]:
    """Return the modules that a new interpreter has after *code*."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    listing = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", listing], env=environment, check=True, capture_output=True, text=True
    )
    return set(done.stdout.splitlines())


HELP = """
import contextlib, io
from penstock.cli.commands import app
with contextlib.redirect_stdout(io.StringIO()):
    try:
        app(["--help"])
    except SystemExit:
        pass
"""


GET = "import penstock.cli.get\n"


def test_help_imports_nothing_heavy() -> None:
    assert not imported_by(HELP) & HEAVY


SERVERS = {"aiohttp", "grpc", "structlog"}
READS_FILES = {
    "lint": "import penstock.cli.lint",
    "translate": "import penstock.cli.translate",
    "get -f": "import penstock.cli.get, penstock.cli.offline",
    "migrate": "import penstock.cli.migrate",
}


@pytest.mark.parametrize("code", READS_FILES.values(), ids=READS_FILES)
def test_a_command_that_reads_files_imports_nothing_that_serves_or_asks(code: str) -> None:
    assert not imported_by(code) & SERVERS


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert not ended.value.code
    assert capsys.readouterr().out == f"{VERSION}\n"


def test_help_has_the_commands_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["--help"])
    assert not ended.value.code
    _, _, listing = capsys.readouterr().out.partition("Commands:\n")
    assert [line.split()[0] for line in listing.splitlines()][:4] == [
        "up",
        "down",
        "status",
        "exec",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get"], "Missing argument 'KIND'"),
        (["get", "pods", "-o", "x"], "'x' is not one of 'table', 'json', 'yaml', 'wide'"),
        (["gte"], "No such command 'gte'"),
        (["translate"], "Missing option '--file' / '-f'"),
        (["observe", "--last", "x"], "'x' is not a valid integer"),
    ],
)
def test_a_mistake_in_the_command_line_is_exit_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_get_needs_no_compiler_unless_it_reads_files() -> None:
    assert not any(one.startswith("penstock.compiler") for one in imported_by(GET))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "--run-dir", "/nonexistent"], "no instance runs in /nonexistent"),
        (["get", "pods", "--run-dir", "/nonexistent"], "start one: penstock up DIR"),
        (["exec", "--run-dir", "/nonexistent", "x", "--", "true"], "no lab in /nonexistent"),
        (["observe", "--run-dir", "/nonexistent"], "no agent runs in /nonexistent"),
        (["proxy", "diff", "--run-dir", "/nonexistent"], "no agent runs in /nonexistent"),
        (["up", "/nonexistent"], "/nonexistent is no folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_2(arguments: list[str], said: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
