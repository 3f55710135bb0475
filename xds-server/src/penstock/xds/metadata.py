"""What travels with a resource for our own use, as a core.v3.Metadata serialised by hand.

One is made for every version of every resource, so it is joined from parts that are remembered for
a while: the resources of one object are made one after another.
Source: node.proto (ResourceMeta, Needs, Origin), envoy/config/core/v3/base.proto of Envoy 1.40.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from penstock.meta.names import Origin
from penstock.xds.framing import field
from penstock.xds.name import ResourceName

META_KEY = "penstock"
_META_TYPE_URL = "type.googleapis.com/penstock.node.v1.ResourceMeta"
_REMEMBERED = 4096
_META_NEEDS, _META_ORIGINS = 1, 2
_NEEDS_TYPE_URL, _NEEDS_NAMES = 1, 2
_ANY_TYPE_URL, _ANY_VALUE = 1, 2
_METADATA_TYPED, _ENTRY_KEY, _ENTRY_VALUE = 2, 1, 2
_KEY = field(_ENTRY_KEY, META_KEY.encode())
_TYPE = field(_ANY_TYPE_URL, _META_TYPE_URL.encode())


def metadata(origins: Iterable[Origin], needs: frozenset[ResourceName]) -> bytes:
    """Return a Metadata with one entry, b"" if there is nothing to say."""
    meta = [_needs(needs)] if needs else []
    meta.extend(map(_origin, origins))
    if not meta:
        return b""
    packed = _TYPE + field(_ANY_VALUE, b"".join(meta))
    return field(_METADATA_TYPED, _KEY + field(_ENTRY_VALUE, packed))


@functools.lru_cache(maxsize=_REMEMBERED)
def _needs(needs: frozenset[ResourceName]) -> bytes:
    return b"".join(
        field(
            _META_NEEDS,
            field(_NEEDS_TYPE_URL, type_url.encode())
            + b"".join(field(_NEEDS_NAMES, one.name.encode()) for one in same),
        )
        for type_url, same in groupby(sorted(needs), attrgetter("type_url"))
    )


@functools.lru_cache(maxsize=_REMEMBERED)
def _origin(origin: Origin) -> bytes:
    ref = origin.object
    parts = (ref.kind, ref.namespace, ref.name, origin.path)
    return field(
        _META_ORIGINS,
        b"".join(field(number, part.encode()) for number, part in enumerate(parts, 1) if part),
    )
