"""Messages as two independent implementations of protobuf see them, in one neutral form.

Ours is upb with descriptors from the Envoy binary; the other is betterproto2 with the classes of
envoy-data-plane, generated from a snapshot of Envoy's API of its own. The neutral form is a dict of
the fields that are set, by their names in the .proto file. What has to be made equal on the way:

* betterproto2 gives wrappers, Duration and Struct as plain Python values, so ours become that too;
* nested messages have one name here ("clustercommonlbconfig"): classes of betterproto2 do;
* it appends "_" to names that are words of Python (`from_`), which is cut off;
* it tells unset from default only where the field has presence, as proto3 does;
* an Any is unpacked on both sides, with its type URL kept beside its content;
* fields that its snapshot does not know would stay as raw bytes; they are reported, because they
  cannot be compared, and so are messages.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import betterproto2
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

_VALUE_LIKE = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "UInt32", "UInt64", "Int32", "Int64", "Double", "Float", "String", "Bytes")
)


def by_upb(type_url: str, body: bytes) -> dict[str, Any]:
    """Decode with our own messages."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(type_url.rpartition("/")[2])
    found = _of_upb(message_factory.GetMessageClass(descriptor).FromString(body))
    assert isinstance(found, dict)
    return found


def by_betterproto(type_url: str, body: bytes) -> tuple[dict[str, Any], list[str]]:
    """Decode with envoy-data-plane.

    Also return what it does not know: "Message.field number", or a type URL.
    """
    unknown: list[str] = []
    found = _of_betterproto(_class_of(type_url)().parse(body), unknown)
    return found, unknown


def _of_upb(message: Message) -> Any:
    full_name = message.DESCRIPTOR.full_name
    if full_name in _VALUE_LIKE:
        return getattr(message, "value")  # noqa: B009  wrappers have no common type
    if isinstance(message, Duration):
        return message.ToTimedelta()
    if full_name == "google.protobuf.Struct":
        return {name: _scalar(value) for name, value in _entries(message, "fields")}
    if full_name == "google.protobuf.Any":
        url, value = _text(message, "type_url"), _bytes(message, "value")
        return {"@type": url, **by_upb(url, value)}
    found: dict[str, Any] = {"@message": _name_of_upb(message)}
    for field, value in message.ListFields():
        found[field.name] = _field_of_upb(value)
    return found


def _name_of_upb(message: Message) -> str:
    """Return the name of the message with those around it, all lower case."""
    descriptor = message.DESCRIPTOR
    nested = descriptor.full_name.removeprefix(f"{descriptor.file.package}.")
    return nested.replace(".", "").lower()


def _field_of_upb(value: Any) -> Any:
    if isinstance(value, Message):
        return _of_upb(value)
    if isinstance(value, Mapping):
        return {key: _field_of_upb(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_field_of_upb(one) for one in value]
    return value


def _entries(message: Message, field: str) -> Iterator[tuple[str, Any]]:
    yield from getattr(message, field).items()


def _scalar(value: Any) -> Any:
    """Return a value of a Struct that is neither a list nor a Struct."""
    kinds: tuple[Any, ...] = (value.bool_value, value.string_value, value.number_value)
    return next((one for one in kinds if one), 0.0)


def _text(message: Message, field: str) -> str:
    return str(getattr(message, field))


def _bytes(message: Message, field: str) -> bytes:
    return bytes(getattr(message, field))


def _class_of(type_url: str) -> Any:
    package = type_url.rpartition("/")[2].rpartition(".")[0]
    with warnings.catch_warnings():
        # Its generated classes use what pydantic deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module(f"envoy_data_plane.{package}")
    return default_message_pool.url_to_type[type_url]


def _of_betterproto(message: Any, unknown: list[str]) -> Any:
    name = type(message).__name__.lower()
    raw = message._unknown_fields
    unknown.extend(f"{name}.{one.number}" for one in betterproto2.load_fields(io.BytesIO(raw)))
    if name == "any":
        try:
            known = _class_of(message.type_url)
        except ModuleNotFoundError:
            unknown.append(message.type_url)
            return {"@type": message.type_url}
        content = _of_betterproto(known().parse(message.value), unknown)
        return {"@type": message.type_url, **content}
    if name == "struct":
        return {key: _scalar(value) for key, value in message.fields.items()}
    found: dict[str, Any] = {"@message": name}
    for field, meta in message._betterproto.meta_by_field_name.items():
        value = getattr(message, field)
        there = value is not None if meta.optional else bool(value)
        if there:
            found[field.rstrip("_")] = _field_of_betterproto(value, unknown)
    return found


def _field_of_betterproto(value: Any, unknown: list[str]) -> Any:
    if isinstance(value, betterproto2.Message):
        return _of_betterproto(value, unknown)
    if isinstance(value, Mapping):
        return {key: _field_of_betterproto(one, unknown) for key, one in value.items()}
    if isinstance(value, list):
        return [_field_of_betterproto(one, unknown) for one in value]
    return value
