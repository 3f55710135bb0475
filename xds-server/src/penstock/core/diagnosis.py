"""What is wrong with an object that does not decode, and where it probably belongs.

Every problem is reported, not only the first; this walk runs only after the fast path failed.
"""

from __future__ import annotations

import difflib
import enum
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from penstock.core import jsonpath
from penstock.core.objects import ApiStruct, Object
from penstock.core.plan import (
    ChoiceShape,
    FieldPlan,
    Leaf,
    ListShape,
    MapShape,
    Plan,
    Shape,
    StructShape,
    choose,
    plan_of,
    structs_below,
)
from penstock.meta.problems import Problem

MAX_PROBLEMS = 50
"""More problems than this in one object are not listed one by one."""
_MAX_DEPTH = 6
"""How deep below a struct the right place of a misplaced field is looked for."""
_MAX_PLACES = 3
_SHOWN = 60
_UNSHOWN = re.compile(r" \(.*\)$", re.DOTALL)
_MSGSPEC_PLACE = re.compile(r" - at `(?:key in )?\$[^`]*`$")
_MSGSPEC_WANTED = re.compile(r"Expected `([^`]+)`(?:, got `[^`]+`| (.+))$")
_JSON_TYPES = {
    dict: "a mapping",
    list: "a list",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class _Full(Exception):  # noqa: N818 - not an error: enough problems were found
    """Enough problems were found."""


def diagnose(kind: type[Object], raw: Mapping[str, Any], hints: Mapping[str, str]) -> list[Problem]:
    """Return the problems that keep *raw* from being a *kind*; empty if there are none.

    Args:
        kind: the type to decode to.
        raw: the object as JSON values; explicit nulls count as absent.
        hints: texts for unknown fields, by path without positions (`spec.ingress[].rules`).
    """
    walk = _Walk(hints)
    try:
        walk.check(StructShape(kind), raw, "", ())
    except _Full:
        walk.problems.append(Problem("", f"more than {MAX_PROBLEMS} problems; the rest is hidden"))
    return walk.problems


class _Enclosing(msgspec.Struct, frozen=True):
    """A struct around the place that is being looked at."""

    path: str
    type: type[msgspec.Struct]

    @property
    def sensitive(self) -> frozenset[str]:
        """Return the fields whose values must not be shown."""
        return self.type.sensitive if issubclass(self.type, ApiStruct) else frozenset()


class _Walk:
    """Collects problems along one object."""

    def __init__(self, hints: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._hints = hints

    def report(self, path: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(path, message, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Full

    def check(self, shape: Shape, value: Any, path: str, around: tuple[_Enclosing, ...]) -> None:
        match shape:
            case StructShape(type=struct):
                if isinstance(value, dict):
                    self._struct(plan_of(struct), value, path, around)
                else:
                    self.report(path, *_wrong_type("a mapping", value))
            case ListShape(item=inner):
                self._list(inner, value, path, around)
            case MapShape(value=inner):
                self._map(inner, value, path, around)
            case ChoiceShape(type=annotation):
                option = choose(shape, value)
                if option is None:
                    self._leaf(annotation, value, path)
                else:
                    self.check(option, value, path, around)
            case Leaf(type=annotation):
                self._leaf(annotation, value, path)

    def _struct(
        self, plan: Plan, value: dict[str, Any], path: str, around: tuple[_Enclosing, ...]
    ) -> None:
        inside = (*around, _Enclosing(path, plan.type))
        for name, one in value.items():
            place = jsonpath.member(path, str(name))
            if name not in plan.allowed:
                self.report(place, "unknown field", self._hint(str(name), place, inside))
            elif one is None and plan.refuses_null:
                self.report(place, "must not be null", "remove the field or write its value")
        for field in plan.fields.values():
            self._field(field, value, path, inside)

    def _field(
        self, field: FieldPlan, value: dict[str, Any], path: str, inside: tuple[_Enclosing, ...]
    ) -> None:
        place = jsonpath.member(path, field.wire)
        one = value.get(field.wire)
        if one is None:
            if field.required and not (field.nullable and field.wire in value):
                self.report(place, "required field is missing")
            return
        if field.wire in inside[-1].sensitive:
            self._hidden(field.shape, one, place)
        else:
            self.check(field.shape, one, place, inside)

    def _hidden(self, shape: Shape, value: Any, path: str) -> None:
        """Check *value*, whose content must not be shown."""
        first = len(self.problems)
        try:
            self.check(shape, value, path, ())
        finally:
            self.problems[first:] = [
                msgspec.structs.replace(problem, message=_UNSHOWN.sub("", problem.message), hint="")
                for problem in self.problems[first:]
            ]

    def _list(self, inner: Shape, value: Any, path: str, around: tuple[_Enclosing, ...]) -> None:
        if not isinstance(value, list):
            hint = "start it with `- `" if isinstance(value, dict | str) else ""
            self.report(path, _wrong_type("a list", value)[0], hint)
            return
        for index, one in enumerate(value):
            self.check(inner, one, jsonpath.item(path, index), around)

    def _map(self, inner: Shape, value: Any, path: str, around: tuple[_Enclosing, ...]) -> None:
        if not isinstance(value, dict):
            self.report(path, *_wrong_type("a mapping", value))
            return
        for name, one in value.items():
            self.check(inner, one, jsonpath.member(path, str(name)), around)

    def _leaf(self, annotation: Any, value: Any, path: str) -> None:
        try:
            msgspec.convert(value, annotation, strict=True)
        except msgspec.ValidationError as error:
            self.report(path, *_explain(annotation, value, str(error)))

    def _hint(self, name: str, place: str, inside: tuple[_Enclosing, ...]) -> str:
        given = self._hints.get(jsonpath.without_positions(place))
        if given is not None:
            return given
        here = inside[-1].type
        if issubclass(here, ApiStruct) and name in here.field_hints:
            return here.field_hints[name]
        return likely_place(name, inside)


def likely_place(name: str, inside: tuple[_Enclosing, ...]) -> str:
    """Return where the unknown field *name* probably belongs, "" without a good guess.

    A field of that name below is the first guess, then one in an enclosing struct or below that,
    then one here whose name is close.
    """
    here = inside[-1]
    names = plan_of(here.type).allowed
    for known in names:
        if known.lower() == name.lower():
            return f"did you mean {known}?"
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.7)
    similar = f"did you mean {close[0]}?" if close else ""
    below = _places_below(name, here.type)
    if below:
        hint = f"belongs inside {' or '.join(below)}"
        return f"{hint}, or {similar}" if similar else hint
    return similar or _place_around(name, inside)


def _place_around(name: str, inside: tuple[_Enclosing, ...]) -> str:
    for outer in reversed(inside[:-1]):
        if name in plan_of(outer.type).allowed:
            return f"belongs further out, directly inside {outer.path or 'the object'}"
        below = _places_below(name, outer.type)
        if below:
            places = (jsonpath.join(outer.path, place) for place in below)
            return f"belongs inside {' or '.join(places)}"
    return ""


def _places_below(name: str, struct: type[msgspec.Struct]) -> list[str]:
    """Return the nearest places below *struct* that know *name*, as `toPorts[]`."""
    level = list(structs_below(struct))
    seen = {struct}
    for _ in range(_MAX_DEPTH):
        found = [path for path, inner in level if name in plan_of(inner).allowed]
        if found:
            return found[:_MAX_PLACES]
        level = list(_next_level(level, seen))
    return []


def _next_level(
    level: list[tuple[str, type[msgspec.Struct]]], seen: set[type[msgspec.Struct]]
) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for path, struct in level:
        if struct not in seen:
            seen.add(struct)
            for below, inner in structs_below(struct):
                yield f"{path}.{below}", inner


def _wrong_type(wanted: str, value: Any) -> tuple[str, str]:
    return f"must be {wanted}, not {_describe(value)}", ""


def _describe(value: Any) -> str:
    kind = _JSON_TYPES.get(type(value), type(value).__name__)
    if value is None or isinstance(value, dict | list):
        return kind
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return f"{kind} ({text if len(text) <= _SHOWN else text[:_SHOWN] + '…'})"


def _explain(annotation: Any, value: Any, error: str) -> tuple[str, str]:
    """Return message and hint for a scalar that msgspec refused."""
    choices = _choices(annotation)
    if choices and isinstance(value, str):
        close = difflib.get_close_matches(value.lower(), [one.lower() for one in choices], n=1)
        meant = [one for one in choices if one.lower() in close]
        hint = f"did you mean {meant[0]}?" if meant else ""
        return f"must be one of {', '.join(choices)}, not {_describe(value)}", hint
    reason = _MSGSPEC_PLACE.sub("", error)
    wanted = _MSGSPEC_WANTED.match(reason)
    if wanted is None:
        return f"{reason[:1].lower()}{reason[1:]}: {_describe(value)}", ""
    words = _in_words(wanted[1]) + (f" {wanted[2]}" if wanted[2] else "")
    return f"must be {words}, not {_describe(value)}", _remedy(wanted[1].split(" | "), value)


def _choices(annotation: Any) -> list[str]:
    """Return the texts that a Literal or a StrEnum allows, none for other types."""
    if get_origin(annotation) is Literal:
        return [str(arg) for arg in get_args(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return [str(one.value) for one in annotation]
    return [choice for arg in get_args(annotation) for choice in _choices(arg)]


def _in_words(expected: str) -> str:
    words = {
        "str": "a string",
        "int": "a number",
        "float": "a number",
        "bool": "true or false",
        "object": "a mapping",
        "array": "a list",
    }
    names = [words.get(name, name) for name in expected.split(" | ") if name != "null"]
    return " or ".join(dict.fromkeys(names))


def _remedy(expected: list[str], value: Any) -> str:
    if "str" in expected and isinstance(value, bool | int | float):
        return f'put it in quotes: "{json.dumps(value)}"'
    if not isinstance(value, str):
        return ""
    if "bool" in expected:
        return "write true or false without quotes"
    if ("int" in expected or "float" in expected) and re.fullmatch(r"-?\d+", value):
        return f"remove the quotes: {value}"
    return ""
