"""Everything that is wrong: in files, and with objects beside other objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.problems import problems_of
from penstock.core.decode import Decoded
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem
from penstock.sources.source import SourceProblem


def mistakes(
    in_files: Iterable[SourceProblem],
    objects: Iterable[Decoded],
    db: Database,
    locate: Callable[[ObjectRef, str], Location | None],
) -> list[SourceProblem]:
    """Return what the source found, then what shows only beside other objects; each thing once.

    Args:
        in_files: what the source found.
        objects: all that it holds.
        db: with the same objects.
        locate: finds the place of a JSON path in an object.
    """
    found = list(in_files)
    known = {(one.ref, one.problem.path) for one in found}
    for thing in sorted(objects, key=lambda one: one.ref):
        for problem in problems_of(db, thing):
            place = locate(thing.ref, problem.path)
            if place is not None and (thing.ref, problem.path) not in known:
                told = _with_places(problem, locate)
                found.append(
                    SourceProblem(file=place.file, location=place, ref=thing.ref, problem=told)
                )
    return found


def _with_places(problem: Problem, locate: Callable[[ObjectRef, str], Location | None]) -> Problem:
    """Return *problem* with the lines of what it is about beside its own place."""
    places = [place for one in problem.related if (place := locate(one.object, one.path))]
    if not places:
        return problem
    text = f"{problem.message} ({', '.join(map(str, places))})"
    return msgspec.structs.replace(problem, message=text)
