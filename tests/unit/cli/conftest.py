from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.meta.paths import RunPaths
from support import cli_answers
from support.fake_apis import Answers, instance

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def controller() -> Answers:
    return cli_answers.controller()


@pytest.fixture
def agent() -> Answers:
    return cli_answers.agent()


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path: a unix socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pcli-") as folder:
        yield Path(folder)


@pytest.fixture
def paths(run_dir: Path, controller: Answers, agent: Answers) -> Iterator[RunPaths]:
    with instance(run_dir, controller, agent) as found:
        yield found


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are shown as on a machine in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def golden(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Compares what was printed with a file."""

    def check(name: str) -> None:
        file = GOLDEN / f"{name}.txt"
        printed = capsys.readouterr().out
        if request.config.getoption("--golden-rewrite"):
            file.write_text(printed)
        assert printed == file.read_text()

    return check
