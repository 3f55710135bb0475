"""Decoding straight from JSON text, for objects that have nothing wrong with them.

Nearly every object of a cluster is such a one, and the text is read into structs without a tree of
dicts between. What does not decode this way, or has a field that its type does not know, is left to
`penstock.core.decode`, which can say what is wrong: here the answer is only None.

Unknown fields are found by reading the text a second time into a shadow of the kind: a type that
knows the same names, refuses all others, and keeps no values.
"""

from __future__ import annotations

import functools
from types import GenericAlias
from typing import Any, Literal

import msgspec

from penstock.core.objects import Object
from penstock.core.plan import (
    ChoiceShape,
    FieldPlan,
    Leaf,
    ListShape,
    MapShape,
    Plan,
    Shape,
    StructShape,
    plan_of,
)
from penstock.core.soundness import is_sound

_NOT_NULL: Any = int | float | str | bool | list[msgspec.Raw] | dict[str, msgspec.Raw]
_NOBODY_READS: Any = Literal["\0"]
"""Type of a field with a choice of structs, which a shadow cannot make: there is no such value."""
_FAILURES = (msgspec.MsgspecError, UnicodeError)


class DirectDecoder:
    """Decodes one kind."""

    def __init__(self, kind: type[Object], *, ignores_unknown: bool) -> None:
        """Decode *kind*; with *ignores_unknown* unknown fields do no harm."""
        self._decoder = msgspec.json.Decoder(kind)
        shadow = None if ignores_unknown and not _refuses_null(kind) else _shadow_of(kind)
        self._shadow = None if shadow is None else msgspec.json.Decoder(shadow)

    def decode(self, text: bytes | msgspec.Raw) -> Object | None:
        """Return the object, None if there is anything to say about it; its header is not read."""
        try:
            decoded: Object = self._decoder.decode(text)
            if self._shadow is not None:
                self._shadow.decode(text)
        except _FAILURES:
            return None
        return decoded if is_sound(decoded) else None


def _refuses_null(kind: type[msgspec.Struct]) -> bool:
    """Return whether an explicit null is refused anywhere in *kind*."""
    seen: set[type[msgspec.Struct]] = set()
    waiting = [kind]
    while waiting:
        struct = waiting.pop()
        if struct in seen:
            continue
        seen.add(struct)
        plan = plan_of(struct)
        if plan.refuses_null:
            return True
        for field in plan.nested:
            waiting.extend(_structs_of(field.shape))
    return False


def _structs_of(shape: Shape) -> list[type[msgspec.Struct]]:
    match shape:
        case StructShape(type=struct):
            return [struct]
        case ListShape(item=inner) | MapShape(value=inner):
            return _structs_of(inner)
        case ChoiceShape(options=options):
            return [struct for option in options for struct in _structs_of(option)]
        case Leaf():
            return []


@functools.cache
def _shadow_of(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    plan = plan_of(struct)
    fields = [
        (f"f{number}", _shadow_field(plan, wire), msgspec.field(name=wire, default=None))
        for number, wire in enumerate(sorted(plan.allowed))
    ]
    return msgspec.defstruct(f"Shadow{struct.__name__}", fields, forbid_unknown_fields=True)


def _shadow_field(plan: Plan, wire: str) -> Any:
    field = plan.fields.get(wire)
    # Of metadata only what is used is read, here as elsewhere.
    of_object = issubclass(plan.type, Object) and wire == "metadata"
    if field is not None and field in plan.nested and not of_object:
        return _shadow_nested(plan, field)
    return _NOT_NULL if plan.refuses_null else msgspec.Raw


def _shadow_nested(plan: Plan, field: FieldPlan) -> Any:
    inner = _shadow(field.shape)
    return inner if plan.refuses_null else inner | None


def _shadow(shape: Shape) -> Any:
    match shape:
        case StructShape(type=struct):
            return _shadow_of(struct)
        case ListShape(item=inner):
            return GenericAlias(list, (_shadow(inner),))
        case MapShape(value=inner):
            return GenericAlias(dict, (str, _shadow(inner)))
        case ChoiceShape():
            return _NOBODY_READS
        case Leaf():
            return msgspec.Raw
