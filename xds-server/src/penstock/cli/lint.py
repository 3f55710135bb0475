"""`penstock lint`: everything that is wrong in files, with file, line, JSON path and next step."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path

import msgspec

from penstock.cli.compiled import Compiled, compile_files
from penstock.cli.output import Format, complain, say, show_value
from penstock.cli.sarif import sarif
from penstock.compiler.problems import problems_of
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity


class LintFormat(enum.StrEnum):
    """How problems are shown."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class Finding(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One problem and its place."""

    file: str
    line: int
    column: int
    severity: str
    object: str
    """ "Kind namespace/name"; "" if the file as a whole is meant."""
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        """Return one line, in the form that editors and compilers use."""
        about = f"{self.object}: " if self.object else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {about}{path}{self.message}{hint}"


def lint(files: Iterable[Path], form: LintFormat) -> int:
    """Show what is wrong in *files* and return 1 if anything is an error, else 0."""
    findings = findings_of(compile_files(files))
    errors = sum(one.severity == Severity.ERROR.value for one in findings)
    match form:
        case LintFormat.JSON:
            show_value({"findings": findings, "errors": errors}, Format.JSON)
        case LintFormat.SARIF:
            show_value(sarif(findings), Format.JSON)
        case LintFormat.TEXT:
            for one in findings:
                say(str(one))
            complain(f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}")
    return 1 if errors else 0


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def findings_of(compiled: Compiled) -> list[Finding]:
    """Return everything that is wrong, sorted by place, each thing once."""
    found = {_finding(one.ref, one.problem, one.location) for one in compiled.loaded.problems}
    known = {(one.object, one.path) for one in found}
    for thing in compiled.loaded.objects:
        for problem in problems_of(compiled.compiler.db, thing):
            place = compiled.loaded.locate(thing.ref, problem.path)
            if place is not None and (str(thing.ref), problem.path) not in known:
                found.add(_finding(thing.ref, problem, place))
    return sorted(found)


def _finding(ref: ObjectRef | None, problem: Problem, place: Location) -> Finding:
    return Finding(
        file=place.file,
        line=place.line,
        column=place.column,
        severity=problem.severity.value,
        object=str(ref) if ref is not None else "",
        path=problem.path,
        message=problem.message,
        hint=problem.hint,
    )
