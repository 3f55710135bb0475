"""The only place where commands print: tables, JSON, YAML, single lines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.cli.formats import Format

_UNBOUNDED = 10_000
_COLOURS = {
    "True": "green",
    "False": "red",
    "FORWARDED": "green",
    "DENIED": "red",
    "ERROR": "yellow",
    "ok": "green",
    "missing": "red",
    "extra": "yellow",
    "different": "red",
    "rejected": "red",
    "pending": "yellow",
}


def console() -> Console:
    """Return where to print; what is not a terminal has lines of any length."""
    stream = sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else _UNBOUNDED
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def show_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without lines, the columns as wide as what is in them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    to = console()
    if to.is_terminal:
        to.print(table)
        return
    with to.capture() as captured:
        to.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def show_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(value))
    console().print(table)


def show_value(value: object, form: Format) -> None:
    """Print *value* as JSON or YAML; equal values give equal bytes."""
    builtin = msgspec.to_builtins(value, str_keys=True)
    if form is Format.YAML:
        import yaml  # noqa: PLC0415  most commands do without

        dumper = yaml.CSafeDumper
        text = yaml.dump(builtin, Dumper=dumper, sort_keys=False, allow_unicode=True, width=100)
    else:
        text = msgspec.json.format(msgspec.json.encode(builtin), indent=2).decode() + "\n"
    sys.stdout.write(text)


def say(text: str) -> None:
    """Print one line as it is."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(text + "\n")
