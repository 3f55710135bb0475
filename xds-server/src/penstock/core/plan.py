"""The type tree of a kind, read once: which fields are allowed where and what is nested.

A plan lets decoding find unknown fields without building anything, and lets a diagnosis say where
a misplaced field belongs.
"""

from __future__ import annotations

import collections.abc
import functools
import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from penstock.core.objects import ApiStruct, Object

_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence)
_MAPS = (dict, collections.abc.Mapping)
_TOP_LEVEL = frozenset({"apiVersion", "kind", "status"})


class Leaf(msgspec.Struct, frozen=True):
    """A value without structs below: msgspec alone decides about it."""

    type: Any


class StructShape(msgspec.Struct, frozen=True):
    """A struct; its plan is looked up when needed, so that types may contain themselves."""

    type: type[msgspec.Struct]


class ListShape(msgspec.Struct, frozen=True):
    """A list of one shape."""

    type: Any
    item: Shape


class MapShape(msgspec.Struct, frozen=True):
    """A mapping from strings to one shape."""

    type: Any
    value: Shape


class ChoiceShape(msgspec.Struct, frozen=True):
    """One of several shapes; structs among them are told apart by their tag."""

    type: Any
    options: tuple[Shape, ...]


Shape = Leaf | StructShape | ListShape | MapShape | ChoiceShape


class FieldPlan(msgspec.Struct, frozen=True):
    """One field of a struct as it is on the wire."""

    attribute: str
    wire: str
    required: bool
    nullable: bool
    shape: Shape


class Plan(msgspec.Struct, frozen=True):
    """What a struct type accepts."""

    type: type[msgspec.Struct]
    fields: dict[str, FieldPlan]
    """By name on the wire."""
    allowed: frozenset[str]
    """Names on the wire, those known but unused included."""
    nested: tuple[FieldPlan, ...]
    """The fields that hold structs somewhere below."""
    refuses_null: bool
    """Whether an explicit null is an error."""


@functools.cache
def plan_of(struct: type[msgspec.Struct]) -> Plan:
    """Return the plan of a struct type."""
    fields = {
        info.encode_name: FieldPlan(
            attribute=info.name,
            wire=info.encode_name,
            required=info.required,
            nullable=_accepts_none(info.type),
            shape=shape_of(info.type),
        )
        for info in msgspec.structs.fields(struct)
    }
    return Plan(
        type=struct,
        fields=fields,
        allowed=frozenset(fields) | _known_unused(struct) | _tag_field(struct),
        nested=tuple(field for field in fields.values() if holds_struct(field.shape)),
        refuses_null=issubclass(struct, ApiStruct) and struct.refuses_null,
    )


@functools.cache
def checked_fields(struct: type[msgspec.Struct]) -> tuple[FieldPlan, ...]:
    """Return the fields below which some struct has `checks` of its own."""
    return tuple(field for field in plan_of(struct).nested if _has_checks(field.shape, ()))


def _has_checks(shape: Shape, inside: tuple[type, ...]) -> bool:
    """Return whether a struct at or below *shape*, which is *inside* others, has checks."""
    match shape:
        case StructShape(type=struct):
            own = issubclass(struct, ApiStruct) and struct.checks is not ApiStruct.checks
            return own or (
                struct not in inside
                and any(_has_checks(f.shape, (*inside, struct)) for f in plan_of(struct).nested)
            )
        case ListShape(item=inner) | MapShape(value=inner):
            return _has_checks(inner, inside)
        case ChoiceShape(options=options):
            return any(_has_checks(option, inside) for option in options)
        case Leaf():
            return False


def shape_of(annotation: Any) -> Shape:
    """Return the shape of a type annotation that msgspec accepts."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = shape_of(args[0])
        return Leaf(annotation) if isinstance(inner, Leaf) else inner
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return StructShape(annotation)
    if origin in (Union, types.UnionType):
        options = tuple(shape_of(arg) for arg in args if arg not in (type(None), msgspec.UnsetType))
        return options[0] if len(options) == 1 else ChoiceShape(annotation, options)
    if origin in _LISTS and args:
        return ListShape(annotation, shape_of(args[0]))
    if origin in _MAPS and args:
        return MapShape(annotation, shape_of(args[1]))
    return Leaf(annotation)


@functools.cache
def holds_struct(shape: Shape) -> bool:
    """Return whether a struct can be at or below *shape*."""
    match shape:
        case StructShape():
            return True
        case ListShape(item=inner) | MapShape(value=inner):
            return holds_struct(inner)
        case ChoiceShape(options=options):
            return any(holds_struct(option) for option in options)
        case Leaf():
            return False


def choose(choice: ChoiceShape, value: Any) -> Shape | None:
    """Return the option of *choice* that *value* is meant to be, by its JSON type and tag."""
    for option in choice.options:
        match option:
            case StructShape(type=struct):
                config = struct.__struct_config__
                tagged = config.tag_field is None or (
                    isinstance(value, dict) and value.get(config.tag_field) == config.tag
                )
                if isinstance(value, dict) and tagged:
                    return option
            case ListShape():
                if isinstance(value, list):
                    return option
            case MapShape():
                if isinstance(value, dict):
                    return option
            case _:
                pass
    return None


def is_clean(shape: Shape, value: Any) -> bool:
    """Return whether no struct at or below *value* has a field that its type does not know.

    A null that the type refuses counts like an unknown field.
    """
    match shape:
        case StructShape(type=struct) if isinstance(value, dict):
            return _is_clean_struct(plan_of(struct), value)
        case ListShape(item=inner) if isinstance(value, list):
            return all(is_clean(inner, one) for one in value)
        case MapShape(value=inner) if isinstance(value, dict):
            return all(is_clean(inner, one) for one in value.values())
        case ChoiceShape():
            option = choose(shape, value)
            return option is None or is_clean(option, value)
        case _:
            return True


def _is_clean_struct(plan: Plan, value: dict[str, Any]) -> bool:
    if plan.refuses_null and None in value.values():
        return False
    return value.keys() <= plan.allowed and all(
        is_clean(field.shape, value[field.wire]) for field in plan.nested if field.wire in value
    )


def without_nulls(shape: Shape, value: Any) -> Any:
    """Return *value* without the fields that are null where null is not a value of the type.

    Kubernetes reads an explicit null as an absent field; elements of lists and mappings stay.
    """
    match shape:
        case StructShape(type=struct) if isinstance(value, dict):
            fields = plan_of(struct).fields
            return {
                name: without_nulls(fields[name].shape, one) if name in fields else one
                for name, one in value.items()
                if one is not None or (name in fields and fields[name].nullable)
            }
        case ListShape(item=inner) if isinstance(value, list) and holds_struct(inner):
            return [without_nulls(inner, one) for one in value]
        case MapShape(value=inner) if isinstance(value, dict) and holds_struct(inner):
            return {name: without_nulls(inner, one) for name, one in value.items()}
        case ChoiceShape():
            option = choose(shape, value)
            return value if option is None else without_nulls(option, value)
        case _:
            return value


def structs_below(struct: type[msgspec.Struct]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield (relative path, type) of the structs that fields of *struct* hold, in field order."""
    for field in plan_of(struct).nested:
        yield from _structs_in(field.wire, field.shape)


def _structs_in(path: str, shape: Shape) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    match shape:
        case StructShape(type=struct):
            yield path, struct
        case ListShape(item=inner):
            yield from _structs_in(f"{path}[]", inner)
        case MapShape(value=inner):
            yield from _structs_in(f"{path}.*", inner)
        case ChoiceShape(options=options):
            for option in options:
                yield from _structs_in(path, option)
        case Leaf():
            pass


def _known_unused(struct: type[msgspec.Struct]) -> frozenset[str]:
    names: set[str] = set()
    for base in struct.__mro__:
        if issubclass(base, ApiStruct):
            names |= base.known_unused
    if issubclass(struct, Object):
        names |= _TOP_LEVEL
    return frozenset(names)


def _tag_field(struct: type[msgspec.Struct]) -> frozenset[str]:
    name = struct.__struct_config__.tag_field
    return frozenset() if name is None else frozenset({name})


def _accepts_none(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _accepts_none(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_accepts_none(arg) for arg in get_args(annotation))
    return annotation in (None, type(None), Any)
