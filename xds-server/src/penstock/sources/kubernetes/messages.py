"""What an API server says, read without keeping more than is used.

`managedFields`, the copy that `kubectl apply` leaves in an annotation, and the status of kinds
whose status Penstock does not read are skipped, not decoded: they are half of what is sent.
Source: Kubernetes API concepts, "Efficient detection of changes"; metav1.Status, metav1.WatchEvent.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from penstock.core.direct import DirectDecoder
from penstock.core.objects import LAST_APPLIED, Object, ObjectMeta
from penstock.core.plan import plan_of
from penstock.sources.kubernetes.pruning import is_servers_own, without_newer_fields

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a watch."""


class UnreadableAnswerError(Exception):
    """The server, or something between, sent what is not a Kubernetes answer."""


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.ListMeta."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    """A list, or one page of it."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class Status(msgspec.Struct, frozen=True):
    """metav1.Status: what went wrong."""

    code: int = 0
    reason: str = ""
    message: str = ""


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _Bookmarked(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Nameless(msgspec.Struct, frozen=True, rename="camel"):
    """Metadata of a bookmark, which belongs to no object."""

    resource_version: str = ""
    annotations: dict[str, str] = {}


class Bookmark(msgspec.Struct, frozen=True):
    """Everything until a resourceVersion was sent."""

    metadata: _Nameless

    @property
    def resource_version(self) -> str:
        """Return the version that the watch has reached."""
        return self.metadata.resource_version

    @property
    def ends_initial_events(self) -> bool:
        """Return whether the initial events are complete."""
        return self.metadata.annotations.get(INITIAL_EVENTS_END) == "true"


_page = msgspec.json.Decoder(Page)
_status = msgspec.json.Decoder(Status)
_event = msgspec.json.Decoder(WatchEvent)
_bookmark = msgspec.json.Decoder(Bookmark)
_header = msgspec.json.Decoder(_Bookmarked)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()


def read_page(body: bytes) -> Page:
    """Return the page that *body* is.

    Raises:
        UnreadableAnswerError: it is something else, or cut off.
    """
    try:
        return _page.decode(body)
    except msgspec.MsgspecError as error:
        raise UnreadableAnswerError(f"not a list: {error}") from error


def read_event(line: bytes) -> WatchEvent:
    """Return the event that a line of a watch is.

    Raises:
        UnreadableAnswerError: it is something else, or cut off.
    """
    try:
        return _event.decode(line)
    except msgspec.MsgspecError as error:
        raise UnreadableAnswerError(f"not a watch event: {error}") from error


def read_bookmark(raw: msgspec.Raw) -> Bookmark:
    """Return the bookmark in a watch event.

    Raises:
        UnreadableAnswerError: it is something else.
    """
    try:
        return _bookmark.decode(raw)
    except msgspec.MsgspecError as error:
        raise UnreadableAnswerError(f"not a bookmark: {error}") from error


def read_status(body: bytes | msgspec.Raw) -> Status:
    """Return what went wrong; an empty Status if *body* does not say."""
    try:
        return _status.decode(body)
    except msgspec.MsgspecError:
        return Status()


def read_metadata(raw: msgspec.Raw) -> ObjectMeta:
    """Return the metadata of an object without decoding the rest.

    Raises:
        UnreadableAnswerError: there is no usable metadata.
    """
    try:
        return _header.decode(raw).metadata
    except msgspec.MsgspecError as error:
        raise UnreadableAnswerError(f"not an object: {error}") from error


def read_object(
    kind: type[Object], api_version: str, raw: msgspec.Raw, metadata: ObjectMeta
) -> dict[str, Any]:
    """Return an object as JSON values, as far as it is used.

    Args:
        kind: what it is; items of a list do not say it themselves.
        api_version: the version that was asked for.
        raw: the object as it was sent.
        metadata: what `read_metadata` returned for it.

    Raises:
        UnreadableAnswerError: it is no JSON.
    """
    wanted = plan_of(kind).fields
    try:
        value: dict[str, Any] = {
            name: _any.decode(field)
            for name, field in _fields.decode(raw).items()
            if name != "metadata" and (name != "status" or name in wanted)
        }
    except msgspec.MsgspecError as error:
        raise UnreadableAnswerError(f"not an object: {error}") from error
    value["metadata"] = msgspec.to_builtins(without_copy(metadata))
    value["apiVersion"] = api_version
    value["kind"] = kind.kind
    return without_newer_fields(kind, value)


def without_copy(metadata: ObjectMeta) -> ObjectMeta:
    """Return *metadata* without the copy that `kubectl apply` leaves."""
    if LAST_APPLIED not in metadata.annotations:
        return metadata
    kept = {name: text for name, text in metadata.annotations.items() if name != LAST_APPLIED}
    return msgspec.structs.replace(metadata, annotations=kept)


@functools.cache
def direct_decoder(kind: type[Object]) -> DirectDecoder:
    """Return what reads an object as it was sent; it gives the same as `read_object`, or None."""
    return DirectDecoder(kind, ignores_unknown=is_servers_own(kind))
