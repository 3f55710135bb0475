"""Strict decoding of Kubernetes objects.

An unknown, misplaced, missing or wrongly typed field is a problem with a JSON path, never dropped:
a policy that lost its `rules` would open what it meant to close. What Kubernetes knows and Penstock
does not use is accepted where a struct lists it in `known_unused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.core import jsonpath
from penstock.core.diagnosis import diagnose
from penstock.core.objects import ApiStruct, Broken, Object, ObjectMeta
from penstock.core.plan import StructShape, checked_fields, is_clean, without_nulls
from penstock.meta.problems import Problem, Severity

Decoded = Object | Broken
"""An object of the wanted kind, or what is known of one that did not decode."""

_NO_HINTS: Mapping[str, str] = {}


class Examined(msgspec.Struct, frozen=True):
    """The outcome of decoding with everything there is to say about it."""

    object: Decoded
    problems: tuple[Problem, ...]
    """Errors if the object is Broken, otherwise warnings only."""


def decode(
    kind: type[Object], raw: dict[str, Any], *, hints: Mapping[str, str] = _NO_HINTS
) -> Decoded:
    """Return *raw* as a *kind*, or a Broken that carries every problem.

    Args:
        kind: the type of the object.
        raw: the object as JSON values, with apiVersion and kind.
        hints: hints for unknown fields by path without positions, as `spec.ingress[].rules`;
            they win over `field_hints` of the structs and over guesses.
    """
    return examine(kind, raw, hints=hints).object


def examine(
    kind: type[Object], raw: dict[str, Any], *, hints: Mapping[str, str] = _NO_HINTS
) -> Examined:
    """Return *raw* decoded as `decode` does, together with warnings."""
    problems = [*_wrong_header(kind, raw)]
    decoded = _convert(kind, raw)
    if decoded is None:
        problems += diagnose(kind, raw, hints)
        if not problems:
            decoded = _convert_exactly(kind, without_nulls(StructShape(kind), raw), problems)
    if decoded is not None:
        problems += check(decoded)
    if decoded is None or any(problem.severity is Severity.ERROR for problem in problems):
        return Examined(_broken(kind, raw, problems), tuple(problems))
    return Examined(decoded, tuple(problems))


def _broken(kind: type[Object], raw: dict[str, Any], problems: list[Problem]) -> Broken:
    return Broken(
        of_kind=kind.kind,
        metadata=readable_metadata(raw.get("metadata")),
        raw={name: value for name, value in raw.items() if name not in kind.sensitive},
        problems=tuple(problems),
    )


def readable_metadata(raw: Any) -> ObjectMeta:
    """Return the members of *raw* that have the right type; the name is "" if it has not."""
    given: dict[Any, Any] = raw if isinstance(raw, dict) else {}

    def text(name: str) -> str:
        value = given.get(name)
        return value if isinstance(value, str) else ""

    def texts(name: str) -> dict[str, str]:
        value = given.get(name)
        pairs = value.items() if isinstance(value, dict) else ()
        return {k: v for k, v in pairs if isinstance(k, str) and isinstance(v, str)}

    generation = given.get("generation")
    return ObjectMeta(
        name=text("name"),
        namespace=text("namespace"),
        uid=text("uid"),
        resource_version=text("resourceVersion"),
        generation=generation if type(generation) is int else 0,
        creation_timestamp=text("creationTimestamp"),
        deletion_timestamp=text("deletionTimestamp"),
        labels=texts("labels"),
        annotations=texts("annotations"),
    )


def check(decoded: msgspec.Struct) -> Iterator[Problem]:
    """Yield what the `checks` of *decoded* and of all structs in it find, with full paths."""
    return _checks(decoded, "")


def _wrong_header(kind: type[Object], raw: dict[str, Any]) -> Iterator[Problem]:
    version = raw.get("apiVersion")
    if version not in kind.api_versions:
        said = "is missing" if version is None else f"{version!r} is not supported"
        yield Problem("apiVersion", said, f"write {' or '.join(kind.api_versions)}")
    if raw.get("kind") != kind.kind:
        yield Problem("kind", f"{raw.get('kind')!r} is not {kind.kind}", f"write {kind.kind}")


def _convert(kind: type[Object], raw: dict[str, Any]) -> Object | None:
    if not is_clean(StructShape(kind), raw):
        return None
    try:
        return msgspec.convert(raw, kind, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: half a surrogate pair
        return None


def _convert_exactly(
    kind: type[Object], raw: dict[str, Any], problems: list[Problem]
) -> Object | None:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        problems.append(Problem("", str(error)))
        return None


def _checks(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, ApiStruct):
        if type(value).checks is not ApiStruct.checks:
            for problem in value.checks():
                yield msgspec.structs.replace(problem, path=jsonpath.join(path, problem.path))
        for field in checked_fields(type(value)):
            inner = getattr(value, field.attribute)
            if inner:
                yield from _checks(inner, jsonpath.member(path, field.wire))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _checks(one, jsonpath.member(path, str(name)))
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _checks(one, jsonpath.item(path, index))
