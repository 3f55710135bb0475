"""Mistakes in what a user wrote, with the place and the likely remedy."""

from __future__ import annotations

import enum

import msgspec

from penstock.meta.names import Origin


class Severity(enum.Enum):
    """How much a problem matters."""

    ERROR = "error"
    WARNING = "warning"


class Problem(msgspec.Struct, frozen=True, order=True):
    """One mistake inside one object."""

    path: str
    """JSON path, as `spec.ingress[0].rules`; "" for the whole object."""
    message: str
    """What is wrong."""
    hint: str = ""
    """What to do, as "belongs inside toPorts[]"; "" if there is no good guess."""
    severity: Severity = Severity.ERROR
    related: tuple[Origin, ...] = ()
    """Places in other objects that the problem is about, too."""

    def __str__(self) -> str:
        """Return "path: message; hint"."""
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text}; {self.hint}" if self.hint else text


class Location(msgspec.Struct, frozen=True, order=True):
    """A place in a file of the user; line and column count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        """Return "file:line"."""
        return f"{self.file}:{self.line}"
