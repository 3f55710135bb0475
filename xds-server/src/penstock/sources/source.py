"""What every source of objects offers, whether it reads files or an API server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from penstock.core.events import Batch
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity

Sink = Callable[[Batch], Awaitable[None]]
"""Takes one batch; the source waits for it before it goes on."""

NOWHERE = Location("", 0)
"""The place of what is in no file."""


class SourceProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A mistake in what the user wrote, with its place."""

    file: str
    """ "" if it is in no file but in an API server."""
    location: Location
    ref: ObjectRef | None = None
    """The object, None if the file or document as a whole is meant."""
    problem: Problem
    last_good: bool = False
    """Whether an earlier version stays in force instead."""

    @property
    def is_error(self) -> bool:
        """Return whether the problem keeps something from being used."""
        return self.problem.severity is Severity.ERROR

    def __str__(self) -> str:
        """Return "file:line:column: Kind ns/name: path: message; hint"; no place if in no file."""
        place = f"{self.location}:{self.location.column}: " if self.file else ""
        about = f"{self.ref}: " if self.ref else ""
        kept = "; the last good version stays in force" if self.last_good else ""
        return f"{place}{about}{self.problem}{kept}"


class Source(Protocol):
    """Objects and their changes."""

    async def run(self, sink: Sink) -> None:
        """Give *sink* everything in one batch, then each change, until cancelled."""
        ...

    def problems(self) -> tuple[SourceProblem, ...]:
        """Return what is wrong at present, sorted by file and line."""
        ...

    def locate(self, ref: ObjectRef, path: str) -> Location | None:
        """Return the place of a JSON path in the version of *ref* that is in force.

        The place of the nearest existing parent is returned for a path that is absent, None for
        an object that is not known.
        """
        ...
