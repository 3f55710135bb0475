"""`penstock lint`: everything that is wrong in files, with file, line, JSON path and next step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from penstock.cli.compiled import Compiled, compile_files
from penstock.cli.crds.folder import definitions_in, judged
from penstock.cli.formats import Format, LintFormat
from penstock.cli.output import complain, say, show_value
from penstock.cli.sarif import sarif
from penstock.controlplane.mistakes import mistakes
from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location, Problem, Severity
from penstock.runtime.clock import SystemClock
from penstock.sources.source import SourceProblem


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


def lint(files: Iterable[Path], form: LintFormat, crds: Path | None = None) -> int:
    """Show what is wrong in *files* and return 1 if anything is an error, else 0.

    Args:
        files: files and folders.
        form: how to show it.
        crds: folder with CustomResourceDefinitions, by which objects are judged, too.
    """
    files = tuple(files)
    compiled = compile_files(files, assume_classes=True)
    compiled.compiler.tell_time(int(SystemClock().now()))
    findings = findings_of(compiled, () if crds is None else _by_crds(files, crds))
    errors = sum(one.severity == Severity.ERROR.value for one in findings)
    match form:
        case LintFormat.JSON:
            show_value({"findings": findings, "errors": errors}, Format.JSON)
        case LintFormat.SARIF:
            show_value(sarif(findings), Format.JSON)
        case LintFormat.TEXT:
            for one in findings:
                say(str(one))
            if not compiled.loaded.objects and not findings:
                complain(f"no Kubernetes object in {', '.join(map(str, files))}")
            complain(f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}")
    return 1 if errors else 0


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _by_crds(files: Iterable[Path], crds: Path) -> list[SourceProblem]:
    return list(judged(files, definitions_in(crds)))


def findings_of(compiled: Compiled, more: Iterable[SourceProblem] = ()) -> list[Finding]:
    """Return everything that is wrong, sorted by place, each thing once.

    Args:
        compiled: the files, compiled.
        more: what others found; where an error is known at the same place, that one is told.
    """
    loaded = compiled.loaded
    found = mistakes(loaded.problems, loaded.objects, compiled.compiler.db, loaded.locate)
    found += _of_assumed(compiled)
    known = {(one.ref, one.problem.path) for one in found if one.is_error}
    found += [one for one in more if (one.ref, one.problem.path) not in known]
    return sorted({_finding(one.ref, one.problem, one.location) for one in found})


def _of_assumed(compiled: Compiled) -> Iterator[SourceProblem]:
    """Yield what is to be said of classes that were taken for ours."""
    for ref, problem in (told for one in compiled.assumed for told in one.told()):
        place = compiled.loaded.locate(ref, problem.path)
        if place is not None:
            yield SourceProblem(file=place.file, location=place, ref=ref, problem=problem)


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
