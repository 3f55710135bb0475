"""What `penstock up` tells while it works: one line for each thing that happened."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from penstock.cli.output import console


class Report:
    """Lines with the seconds since the start, coloured on a terminal."""

    def __init__(self, to: Console | None = None) -> None:
        """Print to *to*; None is standard output."""
        self._console = to or console()
        self._began = time.monotonic()

    def did(self, what: str, detail: str = "") -> None:
        """Tell a step that is done."""
        self._line("✓", "green", what, detail)

    def notes(self, what: str, detail: str = "") -> None:
        """Tell something that is neither good nor bad."""
        self._line("·", "blue", what, detail)

    def warns(self, what: str, detail: str = "") -> None:
        """Tell something that the user should look at."""
        self._line("!", "yellow", what, detail)

    def fails(self, what: str, detail: str = "") -> None:
        """Tell something that does not work."""
        self._line("✗", "red", what, detail)

    def plain(self, lines: Iterable[str]) -> None:
        """Print lines as they are."""
        for line in lines:
            self._console.print(Text(line))

    def _line(self, mark: str, colour: str, what: str, detail: str) -> None:
        seconds = time.monotonic() - self._began
        text = Text.assemble(
            (f"{seconds:6.1f} s ", "dim"), (f"{mark} ", colour), (what, "bold"), "  ", detail
        )
        text.rstrip()
        self._console.print(text)
