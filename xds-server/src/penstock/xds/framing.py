"""Protobuf by hand, for the few messages that are made once and sent many times.

A serialised message followed by more serialised fields of the same message is a valid message, so
a response is its header fields and the frames of its resources, joined. Within a Resource the
fields are in an order of our own (protobuf asks for none): the resource's body is always last.

Source: protobuf encoding; envoy/service/discovery/v3/discovery.proto of Envoy 1.40.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

_RESPONSE_RESOURCES = 2
_RESPONSE_TYPE_URL = 4
_RESPONSE_NONCE = 5
_RESPONSE_REMOVED = 6
_RESOURCE_VERSION = 1
_RESOURCE_ANY = 2
_RESOURCE_NAME = 3
_RESOURCE_METADATA = 9
_ANY_TYPE_URL = 1
_ANY_VALUE = 2
_LENGTH_DELIMITED = 2
_MORE = 0x80
_TWO_GROUPS = _MORE * _MORE
_ONE_GROUP = tuple(bytes((value,)) for value in range(_MORE))
_SHORT = tuple(
    tuple(bytes((number << 3 | _LENGTH_DELIMITED, length)) for length in range(_MORE))
    for number in range(16)
)
"""Tag and length of fields by number, of lengths that are one byte."""


def varint(value: int) -> bytes:
    """Return *value*, not negative, in base 128, low group first."""
    if value < _MORE:
        return _ONE_GROUP[value]
    if value < _TWO_GROUPS:
        return bytes((value & 0x7F | _MORE, value >> 7))
    groups = bytearray()
    while value >= _MORE:
        groups.append(value % _MORE | _MORE)
        value //= _MORE
    groups.append(value)
    return bytes(groups)


def field(number: int, payload: bytes) -> bytes:
    """Return one length-delimited field, of a number below 16: tag, length, payload."""
    length = len(payload)
    if length < _MORE:
        return _SHORT[number][length] + payload
    return _ONE_GROUP[number << 3 | _LENGTH_DELIMITED] + varint(length) + payload


def resource_field(type_url: str, name: str, version: str, metadata: bytes, body: bytes) -> bytes:
    """Return one `resources` field of a DeltaDiscoveryResponse; *body* is its last part.

    *metadata* is a serialised core.v3.Metadata, b"" for none.
    """
    length = len(body)
    any_head = _any_head(type_url) + varint(length)
    head = b"".join((
        field(_RESOURCE_NAME, name.encode()),
        field(_RESOURCE_VERSION, version.encode()),
        field(_RESOURCE_METADATA, metadata) if metadata else b"",
        _ANY_TAG,
        varint(len(any_head) + length),
        any_head,
    ))  # fmt: skip
    return b"".join((_RESOURCES_TAG, varint(len(head) + length), head, body))


@functools.lru_cache(maxsize=64)
def _any_head(type_url: str) -> bytes:
    """Return an Any as far as the length of its value."""
    return field(_ANY_TYPE_URL, type_url.encode()) + varint(_ANY_VALUE << 3 | _LENGTH_DELIMITED)


_ANY_TAG = varint(_RESOURCE_ANY << 3 | _LENGTH_DELIMITED)
_RESOURCES_TAG = varint(_RESPONSE_RESOURCES << 3 | _LENGTH_DELIMITED)


def delta_response(
    type_url: str, nonce: str, frames: Iterable[bytes], removed: Iterable[str]
) -> bytes:
    """Return a serialised DeltaDiscoveryResponse of frames made by `resource_field`."""
    head = field(_RESPONSE_TYPE_URL, type_url.encode()) + field(_RESPONSE_NONCE, nonce.encode())
    gone = (field(_RESPONSE_REMOVED, name.encode()) for name in removed)
    return b"".join((head, *gone, *frames))
