"""What a source tells: the same from a folder of files and from an API server."""

from __future__ import annotations

import enum

import msgspec

from penstock.core.objects import Broken, Object


class EventType(enum.Enum):
    """Kind of change, in the words of the Kubernetes watch API."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Event(msgspec.Struct, frozen=True):
    """One object came, changed or went; DELETED carries the last known state."""

    type: EventType
    object: Object | Broken


class Batch(msgspec.Struct, frozen=True):
    """Events to be applied together.

    The first batch of a source is its whole content with `synced` true; nothing may be served
    before it.
    """

    events: tuple[Event, ...]
    synced: bool = True
