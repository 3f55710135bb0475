"""Structural schemas: defaults, and what is wrong with a value.

Source: Kubernetes, CustomResourceDefinition v1, JSONSchemaProps and "structural schema"; as the API
server does it, defaults are filled in before anything is judged.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import ipaddress
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import re2

from penstock.core import jsonpath
from penstock.meta.problems import Problem

Schema = Mapping[str, Any]

_INTEGERS = {"int32": 1 << 31, "int64": 1 << 63}
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
_FORMATS: Mapping[str, Callable[[str], object]] = {
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "cidr": ipaddress.ip_interface,
    "uuid": uuid.UUID,
    "date": dt.date.fromisoformat,
    "date-time": dt.datetime.fromisoformat,
    "byte": lambda text: base64.b64decode(text, validate=True),
}
"""Formats of strings that are looked at: each refuses what has not the form by a ValueError."""
PRUNED = "unknown field; the API server leaves it out, and kubectl refuses it"


def with_defaults(value: Any, schema: Schema) -> Any:
    """Return *value* with the defaults of *schema*; a null that is not allowed is one, too."""
    if isinstance(value, dict):
        filled = dict(value)
        for name, member in _properties(schema).items():
            if "default" in member and (
                name not in filled or (filled[name] is None and not member.get("nullable"))
            ):
                filled[name] = copy.deepcopy(member["default"])
        return {
            name: with_defaults(one, member_schema(schema, name)) for name, one in filled.items()
        }
    if isinstance(value, list):
        items = schema.get("items") or {}
        return [with_defaults(one, items) for one in value]
    return value


def member_schema(schema: Schema, name: str) -> Schema:
    """Return the schema of member *name*; an empty one if nothing is said of it."""
    known = _properties(schema).get(name)
    if known is not None:
        return known
    more = schema.get("additionalProperties")
    return more if isinstance(more, dict) else {}


def problems(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    """Yield everything that is wrong with *value*, which is at *path*."""
    if value is None and schema.get("nullable"):
        return
    wrong = _type_fault(value, schema)
    if wrong:
        yield Problem(path, wrong)
        return
    yield from (Problem(path, text) for text in _plain_faults(value, schema))
    yield from _combined(value, schema, path)
    if isinstance(value, dict):
        yield from _of_object(value, schema, path)
    elif isinstance(value, list):
        yield from _of_list(value, schema, path)


def _type_fault(value: Any, schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        good = _TYPES["string"](value) or _TYPES["integer"](value)
        return "" if good else "must be a whole number or a string"
    wanted = schema.get("type", "")
    check = _TYPES.get(wanted)
    if check is None or check(value):
        return ""
    return f"must be of type {wanted}, and is {_named_type(value)}"


def _named_type(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for name, check in _TYPES.items() if check(value)), type(value).__name__)


def _plain_faults(value: Any, schema: Schema) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        yield from _string_faults(value, schema)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_faults(value, schema)


def _string_faults(value: str, schema: Schema) -> Iterator[str]:
    if len(value) > schema.get("maxLength", len(value)):
        yield f"is {len(value)} characters long; at most {schema['maxLength']} are allowed"
    if len(value) < schema.get("minLength", 0):
        yield f"is {len(value)} characters long; at least {schema['minLength']} are needed"
    pattern = schema.get("pattern")
    if pattern and re2.search(pattern, value) is None:
        yield f"{value[:80]!r} does not match {pattern}"
    check = _FORMATS.get(schema.get("format", ""))
    if check is not None and not _is_readable(value, check):
        yield f"{value[:80]!r} is no {schema['format']}"


def _is_readable(value: str, read: Callable[[str], object]) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _number_faults(value: float, schema: Schema) -> Iterator[str]:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is not None and (
        value < lowest or (schema.get("exclusiveMinimum") and value == lowest)
    ):
        yield f"{value} is too small; {lowest} is the least"
    if highest is not None and (
        value > highest or (schema.get("exclusiveMaximum") and value == highest)
    ):
        yield f"{value} is too large; {highest} is the most"
    limit = _INTEGERS.get(schema.get("format", ""))
    if limit is not None and not -limit <= value < limit:
        yield f"{value} is no {schema['format']}"


def _combined(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    for part in schema.get("allOf") or ():
        yield from problems(value, _open(part), path)
    for name, least, most in (("anyOf", 1, None), ("oneOf", 1, 1)):
        parts = schema.get(name)
        if not parts or schema.get("x-kubernetes-int-or-string"):
            continue
        good = sum(not any(problems(value, _open(one), path)) for one in parts)
        if good < least or (most is not None and good > most):
            yield Problem(path, f"must be as one of {len(parts)} forms say, and is as {good}")
    if "not" in schema and not any(problems(value, _open(schema["not"]), path)):
        yield Problem(path, "is of a form that is not allowed")


def _open(part: Schema) -> Schema:
    """Return *part* of a combination, which says nothing of what else there may be."""
    return {"x-kubernetes-preserve-unknown-fields": True, **part}


def _of_object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[Problem]:
    for name in schema.get("required") or ():
        if name not in value:
            yield Problem(jsonpath.member(path, name), "required field is missing")
    yield from _counted(len(value), "members", schema, ("minProperties", "maxProperties"), path)
    known, more = _properties(schema), schema.get("additionalProperties")
    open_ = schema.get("x-kubernetes-preserve-unknown-fields") or more is True
    for name, one in value.items():
        place = jsonpath.member(path, name)
        if name in known or isinstance(more, dict):
            yield from problems(one, member_schema(schema, name), place)
        elif not open_ and not schema.get("x-kubernetes-embedded-resource"):
            yield Problem(place, PRUNED)


def _of_list(value: list[Any], schema: Schema, path: str) -> Iterator[Problem]:
    yield from _counted(len(value), "elements", schema, ("minItems", "maxItems"), path)
    items = schema.get("items") or {}
    for index, one in enumerate(value):
        yield from problems(one, items, jsonpath.item(path, index))
    kind = schema.get("x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if kind in ("set", "map"):
        yield from _twice(value, tuple(keys) if kind == "map" else None, path)


def _twice(value: Iterable[Any], keys: tuple[str, ...] | None, path: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, one in enumerate(value):
        if keys is None:
            key = repr(one)
        else:
            key = repr([one.get(name) for name in keys]) if isinstance(one, dict) else ""
        if key in seen:
            what = "" if keys is None else f" (by {', '.join(keys)})"
            yield Problem(jsonpath.item(path, index), f"is there already{what}")
        seen.add(key)


def _counted(
    count: int, what: str, schema: Schema, limits: tuple[str, str], path: str
) -> Iterator[Problem]:
    least, most = (schema.get(name) for name in limits)
    if least is not None and count < least:
        yield Problem(path, f"has {count} {what}; at least {least} are needed")
    if most is not None and count > most:
        yield Problem(path, f"has {count} {what}; at most {most} are allowed")


def _properties(schema: Schema) -> Mapping[str, Schema]:
    return schema.get("properties") or {}
