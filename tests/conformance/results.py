"""What the official suite printed, as results of tests.

Source: `go test -v`: one "--- PASS: TestConformance/Name (1.23s)" for each test and each of its
parts, and "=== NAME" in front of lines of another test.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import msgspec

ROOT = "TestConformance"
KEPT_LINES = 30
"""So many of the last lines of a test that failed are kept."""

_OUTCOME = re.compile(r"\s*--- (PASS|FAIL|SKIP): (\S+) \((\d+\.\d+)s\)")
_STARTED = re.compile(r"=== (?:RUN|CONT|NAME|PAUSE)\s+(\S+)")
_UNSUPPORTED = re.compile(r"Skipping (\S+): suite does not support (\S+)")
_RELYING = re.compile(r"Running (\S+), relying on the following features: (.*)")


class Outcome(enum.Enum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


_OUTCOMES = {"PASS": Outcome.PASSED, "FAIL": Outcome.FAILED, "SKIP": Outcome.SKIPPED}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a test that failed."""

    name: str
    output: tuple[str, ...] = ()
    """Its last lines."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One test of the suite."""

    name: str
    outcome: Outcome
    seconds: float
    parts: int = 0
    """How many parts it has."""
    features: tuple[str, ...] = ()
    """Those that it relies on, if it ran."""
    lacking: str = ""
    """The feature for want of which it was skipped."""
    failures: tuple[Part, ...] = ()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run printed."""

    results: tuple[Result, ...]
    """By name."""
    complete: bool
    """Whether the suite itself came to an end."""


def read(lines: Iterable[str]) -> Run:
    """Return the results in the output of the suite."""
    reader = _Reader()
    for line in lines:
        reader.take(line.rstrip("\n"))
    return reader.run()


class _Reader:
    def __init__(self) -> None:
        self._ended: dict[str, tuple[Outcome, float]] = {}
        self._output: dict[str, list[str]] = {}
        self._features: dict[str, tuple[str, ...]] = {}
        self._lacking: dict[str, str] = {}
        self._current = ""

    def take(self, line: str) -> None:
        if (found := _OUTCOME.match(line)) is not None:
            self._ended[found[2]] = _OUTCOMES[found[1]], float(found[3])
            self._current = found[2]
        elif (found := _STARTED.match(line)) is not None:
            self._current = found[1]
        else:
            self._note(line)

    def _note(self, line: str) -> None:
        if (found := _UNSUPPORTED.search(line)) is not None:
            self._lacking[found[1]] = found[2]
        elif (found := _RELYING.search(line)) is not None:
            listed = (one.strip() for one in found[2].split(","))
            self._features[found[1]] = tuple(one.rpartition("-")[0] for one in listed if one)
        kept = self._output.setdefault(self._current, [])
        kept.append(line)
        del kept[:-KEPT_LINES]

    def run(self) -> Run:
        below: dict[str, list[str]] = {}
        for path in self._ended:
            root, _, rest = path.partition("/")
            if root == ROOT and rest:
                below.setdefault(rest.partition("/")[0], []).append(path)
        results = tuple(self._result(name, below[name]) for name in sorted(below))
        return Run(results=results, complete=ROOT in self._ended)

    def _result(self, name: str, paths: list[str]) -> Result:
        own = f"{ROOT}/{name}"
        outcome, seconds = self._ended.get(own, (Outcome.FAILED, 0.0))
        failed = [path for path in paths if self._ended[path][0] is Outcome.FAILED]
        deepest = [one for one in failed if not any(o.startswith(f"{one}/") for o in failed)]
        return Result(
            name=name,
            outcome=outcome,
            seconds=seconds,
            parts=len(paths) - (own in paths),
            features=self._features.get(name, ()),
            lacking=self._lacking.get(name, ""),
            failures=tuple(
                Part(name=one.removeprefix(f"{own}/"), output=tuple(self._output.get(one, ())))
                for one in deepest
            ),
        )
