"""Whether an object is sound, for the many that are; `penstock.core.decode.check` says what is not.

All objects of a cluster are judged at each start. So each type has a function of its own, made
once, that goes to those structs only that have checks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.core.objects import ApiStruct
from penstock.core.plan import (
    ChoiceShape,
    Leaf,
    ListShape,
    MapShape,
    Shape,
    StructShape,
    checked_fields,
)

Judge = Callable[[Any], bool]
REMEMBERED = 1024
"""Verdicts on structs that many objects have alike, of each type."""


def is_sound(value: msgspec.Struct) -> bool:
    """Return whether `check` would find nothing, without making paths on the way."""
    return _judge_of(type(value))(value)


@functools.cache
def _judge_of(kind: type[msgspec.Struct]) -> Judge:
    return _made_for(kind, ())


def _made_for(kind: type[msgspec.Struct], inside: tuple[type, ...]) -> Judge:
    """Return what judges structs of *kind*, which are *inside* of others."""
    fields = [
        (field.attribute, _below(field.shape, (*inside, kind))) for field in checked_fields(kind)
    ]
    checks, alike = None, False
    if issubclass(kind, ApiStruct):
        checks = None if kind.checks is ApiStruct.checks else kind.checks
        alike = kind.alike

    def judge(value: Any) -> bool:
        if checks is not None:
            for _ in checks(value):
                return False
        for attribute, sound in fields:
            found = getattr(value, attribute)
            if found and not sound(found):
                return False
        return True

    return functools.lru_cache(maxsize=REMEMBERED)(judge) if alike else judge


def _below(shape: Shape, inside: tuple[type, ...]) -> Judge:
    """Return what judges values of *shape* in structs that are *inside* of others."""
    match shape:
        case StructShape(type=kind):
            return is_sound if kind in inside else _made_for(kind, inside)
        case ListShape(item=inner):
            return _each(_below(inner, inside))
        case MapShape(value=inner):
            each = _each(_below(inner, inside))
            return lambda value: each(value.values())
        case ChoiceShape() | Leaf():
            return _any


def _each(sound: Judge) -> Judge:
    def judge(values: Any) -> bool:
        for one in values:  # noqa: SIM110 - of all objects at the start; all() takes twice as long
            if not sound(one):
                return False
        return True

    return judge


def _any(value: Any) -> bool:
    """Judge a value by what it is."""
    if isinstance(value, ApiStruct):
        return is_sound(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return True
    return all(map(_any, value))
