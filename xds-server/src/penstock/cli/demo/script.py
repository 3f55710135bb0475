"""How the demo tells its story: steps, checks, bars and the count at the end."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from penstock.cli.output import console

_BAR = 40
_COLOURS = ("cyan", "magenta", "yellow", "green")


class Script:
    """Prints what happens and counts what was as expected."""

    def __init__(self, to: Console | None = None) -> None:
        """Print to *to*; None is standard output."""
        self._console = to or console()
        self.passed = 0
        self.failed = 0
        self._left_out: list[str] = []

    def step(self, number: int, title: str) -> None:
        """Begin a step."""
        self._console.print()
        self._console.print(Text.assemble((f"Step {number}  ", "bold cyan"), (title, "bold")))

    def note(self, text: str) -> None:
        """Tell what is done, or how it looks."""
        self._console.print(Text(f"    {text}"))

    def check(self, sent: str, expected: str, got: str, *, holds: bool) -> None:
        """Tell what was sent, expected and got, and count it."""
        self.passed += holds
        self.failed += not holds
        mark = ("✓ ", "bold green") if holds else ("✗ ", "bold red")
        line = Text.assemble("  ", mark, f"{sent:<54} ")
        line.append(f"expected {expected:<19} ", "dim")
        line.append(f"got {got}", "" if holds else "red")
        self._console.print(line)

    def split(self, label: str, shares: Mapping[str, float], said: str, *, holds: bool) -> None:
        """Show how requests were split as a bar, and count it.

        Args:
            label: the weights.
            shares: version → share, 0 to 1, adding up to 1.
            said: what was measured besides.
            holds: whether it is as expected.
        """
        self.passed += holds
        self.failed += not holds
        mark = ("✓ ", "bold green") if holds else ("✗ ", "bold red")
        line = Text.assemble("  ", mark, f"{label:<8} ")
        filled = 0
        for index, (version, share) in enumerate(shares.items()):
            last = index == len(shares) - 1
            cells = _BAR - filled if last else round(share * _BAR)
            filled += cells
            line.append(("█", "▒", "░", "·")[index % 4] * cells, _COLOURS[index % 4])
            del version
        for version, share in shares.items():
            line.append(f"  {version} {share * 100:5.1f} %")
        line.append(f"  {said}")
        self._console.print(line)

    def leave_out(self, title: str, reason: str) -> None:
        """Tell that a step cannot run here."""
        self._left_out.append(title)
        self._console.print(Text.assemble("  ", ("· ", "yellow"), f"{title}  not run: {reason}"))

    def end(self, seconds: float) -> int:
        """Print the count and return the exit status."""
        self._console.print()
        left_out = f", {len(self._left_out)} steps not run" if self._left_out else ""
        count = f"{self.passed} passed, {self.failed} failed"
        self._console.print(
            Text.assemble(
                (count, "bold red" if self.failed else "bold green"),
                f"{left_out}  ({seconds:.0f} s)" if left_out else f"  ({seconds:.0f} s)",
            )
        )
        return 1 if self.failed else 0
