"""What tells one version of a pod's spec from another.

A field that has its default counts as not written, so a field that a later version of Penstock
learns of changes nothing for those who do not use it: their pods go on.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import msgspec


def fingerprint(spec: msgspec.Struct) -> bytes:
    """Return 32 bytes that change with what is written in *spec*, and with nothing else."""
    return hashlib.sha256(msgspec.json.encode(_written(spec), order="sorted")).digest()


def _written(value: Any) -> Any:
    """Return *value* as of JSON, without fields that have their defaults."""
    match value:
        case msgspec.Struct():
            return {
                name: _written(found)
                for attribute, name, default in _fields(type(value))
                if (found := getattr(value, attribute)) != default
            }
        case dict():
            return {key: _written(one) for key, one in value.items()}
        case list() | tuple():
            return [_written(one) for one in value]
        case _:
            return value


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Return attribute, name in JSON and default of each field; NODEFAULT equals no value."""
    return tuple(
        (one.name, one.encode_name, _default(one)) for one in msgspec.structs.fields(struct)
    )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
