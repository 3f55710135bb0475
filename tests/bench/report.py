"""What a bench found: tables for readers, every sample for those who doubt them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec


class Samples(msgspec.Struct, frozen=True):
    """Repeated measurements of one quantity, in the order they were made."""

    values: tuple[float, ...]

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Return "minimum / median"."""
        return f"{number(self.minimum)} / {number(self.median)}"

    def over(self, other: Samples) -> str:
        """Return the ratio of the minima and of the medians."""
        return f"{self.minimum / other.minimum:.2f} / {self.median / other.median:.2f}"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text under a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One page of docs/measurements."""

    topic: str
    """Name of the file."""
    title: str
    about: str
    """What was measured, how, and on what."""
    tables: Sequence[Table]
    raw: dict[str, Any]
    """Samples and facts by name, for the JSON file."""


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """What was run, where and when."""

    machine: str
    date: str
    command: str
    seconds: float


def number(value: float) -> str:
    """Return *value* with three significant digits."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def samples(values: Iterable[float]) -> Samples:
    return Samples(tuple(values))


def markdown(report: Report, bench: Bench) -> str:
    """Return the page."""
    lines = [
        f"# {report.title}",
        "",
        f"Run by `{bench.command}` on {bench.date}, {bench.seconds:.0f} s.",
        f"Machine: {bench.machine}.",
        "Pairs are minimum / median.",
        "",
        report.about.strip(),
    ]
    for table in report.tables:
        lines += ["", f"## {table.title}", ""]
        lines += [_row(table.header), _row(["---"] * len(table.header))]
        lines += [_row(row) for row in table.rows]
        if table.notes:
            lines += ["", *(f"* {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def write(report: Report, bench: Bench, folder: Path) -> Path:
    """Write the page and its samples; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{report.topic}.md"
    page.write_text(markdown(report, bench))
    content = {"topic": report.topic, **msgspec.to_builtins(bench), **_plain(report.raw)}
    (folder / f"{report.topic}.json").write_text(json.dumps(content, indent=1) + "\n")
    return page


def _plain(raw: dict[str, Any]) -> dict[str, Any]:
    """Replace samples by lists of numbers, rounded to what can be measured."""
    plain: dict[str, Any] = {}
    for name, value in raw.items():
        if isinstance(value, Samples):
            plain[name] = [float(f"{v:.5g}") for v in value.values]
        elif isinstance(value, dict):
            plain[name] = _plain(value)
        else:
            plain[name] = value
    return plain


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
