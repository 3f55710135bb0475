"""`penstock lint`: everything that is wrong in files, with file, line, JSON path and next step."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from penstock.cli.compiled import Compiled, compile_files
from penstock.cli.output import Format, complain, say, show_value
from penstock.cli.sarif import sarif
from penstock.compiler.database import Database
from penstock.compiler.policies import parsed
from penstock.compiler.routing import (
    ParentOf,
    RouteFor,
    gateway_attachment,
    head,
    service_attachment,
    translated,
)
from penstock.core.objects import Broken
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.fields import ParentReference
from penstock.gatewayapi.resources import Gateway, HTTPRoute
from penstock.gatewayapi.status import gateway_status, is_ours
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Location, Problem, Severity
from penstock.policy.resources import CiliumNetworkPolicy

_ANY_ADDRESS = "192.0.2.1"
"""Stands for the address that a running Gateway has."""


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
    for ref, problem in _meanings(compiled):
        place = compiled.loaded.locate(ref, problem.path)
        if place is not None and (str(ref), problem.path) not in known:
            found.add(_finding(ref, problem, place))
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


def _meanings(compiled: Compiled) -> Iterator[tuple[ObjectRef, Problem]]:
    """Yield what is wrong with objects although they can be read: what they mean or refer to."""
    db = compiled.compiler.db
    for one in compiled.loaded.objects:
        if one.ref.kind == CiliumNetworkPolicy.kind:
            policy = parsed(db, one.key)
            yield from ((one.ref, problem) for problem in (policy.problems if policy else ()))
        elif one.ref.kind == HTTPRoute.kind:
            yield from ((one.ref, problem) for problem in _of_route(db, one.key))
        elif isinstance(one, Gateway):
            yield from ((one.ref, problem) for problem in _of_gateway(db, one))


def _of_route(db: Database, name: NamespacedName) -> Iterator[Problem]:
    route, known = head(db, name), db.routes.get(name)
    if route is None:
        return
    kinds = {kind_of(parent) for parent in route.parents}
    for kind in (ParentKind.GATEWAY, ParentKind.SERVICE):
        rules = translated(db, RouteFor(name, mesh=kind is ParentKind.SERVICE))
        if rules is not None and kind in kinds and not isinstance(known, Broken):
            yield from rules.problems
    for index, parent in enumerate(route.parents):
        problem = _of_parent(db, ParentOf(name, index), parent)
        if problem is not None:
            yield msgspec.structs.replace(problem, path=f"spec.parentRefs[{index}]")


def _of_parent(db: Database, key: ParentOf, parent: ParentReference) -> Problem | None:
    target = target_of(parent, key.route)
    accepted: Condition | None
    match kind_of(parent):
        case ParentKind.GATEWAY:
            attached = gateway_attachment(db, key)
            if attached is None:
                return _dangling("Gateway", target)
            accepted = attached.accepted
        case ParentKind.SERVICE:
            governed = service_attachment(db, key)
            if governed is None or db.services.get(target) is None:
                return _dangling("Service", target)
            accepted = governed.accepted
        case ParentKind.FOREIGN:
            text = f"{parent.kind} is nothing that routes can attach to here"
            return Problem("", text, "name a Gateway or a Service", Severity.WARNING)
    if accepted.status:
        return None
    text = f"{accepted.reason}: {accepted.message}".rstrip(": ")
    return Problem("", text, "the route is not in force there", Severity.WARNING)


def _dangling(kind: str, name: NamespacedName) -> Problem:
    text = f"{kind} {name} is not in these files"
    return Problem("", text, f"give the file of the {kind} too, or mend the name", Severity.WARNING)


def _of_gateway(db: Database, gateway: Gateway) -> Iterator[Problem]:
    name = gateway.spec.gateway_class_name
    class_ = db.gateway_classes.get(NamespacedName("", name))
    if class_ is None:
        text = f"GatewayClass {name} is not in these files"
        hint = "without it nobody serves the Gateway"
        yield Problem("spec.gatewayClassName", text, hint, Severity.WARNING)
        return
    if not is_ours(class_):
        return
    status = gateway_status(gateway, attached_routes={}, addresses=[_ANY_ADDRESS])
    for index, listener in enumerate(status.listeners):
        for bad in _failing(listener.conditions):
            text = f"{bad.reason}: {bad.message}".rstrip(": ")
            yield Problem(
                f"spec.listeners[{index}]", text, "the listener is not served", Severity.WARNING
            )
    for bad in _failing(status.conditions)[:1] if not status.listeners else ():
        yield Problem("spec", f"{bad.reason}: {bad.message}", "", Severity.WARNING)


def _failing(conditions: Iterable[Condition]) -> list[Condition]:
    """Return what is wrong by itself: Programmed only follows from the others."""
    return [
        one
        for one in conditions
        if one.type != "Programmed" and one.status is (one.type == "Conflicted")
    ]
