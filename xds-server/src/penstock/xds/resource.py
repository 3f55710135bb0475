"""Resources: what a node is sent, serialised once.

A Resource holds the bytes of one `resources` field of a DeltaDiscoveryResponse, ready to be joined
into the responses of every client. What Penstock itself wants to know of it, which other resources
it needs and which objects of the user it comes from, travels in the same bytes, as
`metadata.typed_filter_metadata["penstock"]` (penstock.node.v1.ResourceMeta), which Envoy carries
and does not read. So the controller, the agent and Envoy see the same frame and the same version,
and the agent orders and explains what it hands on as the controller would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec
from google.protobuf.message import Message

from penstock.meta.names import Origin
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import framing, types
from penstock.xds.origins import decode_origin, encode_origin

_META_KEY = "penstock"
_META_TYPE_URL = "type.googleapis.com/penstock.node.v1.ResourceMeta"


class ResourceName(msgspec.Struct, frozen=True, order=True, gc=False):
    """A resource whatever its version."""

    type_url: str
    name: str

    def __str__(self) -> str:
        """Return "Cluster name"."""
        return f"{types.short(self.type_url)} {self.name}"


class Resource(msgspec.Struct, frozen=True):
    """One version of one resource."""

    type_url: str
    name: str
    version: str
    """Hash of body, needs and origins, in hex: equal content has equal versions everywhere."""
    framed: bytes
    """A whole `resources` field of a DeltaDiscoveryResponse."""
    body_size: int
    """Length in bytes of the serialised message, the last part of `framed`."""
    origins: tuple[Origin, ...] = ()
    """Objects of the user that it comes from."""
    needs: frozenset[ResourceName] = frozenset()
    """What a client must have accepted before it is sent this."""

    @property
    def key(self) -> ResourceName:
        """Return type and name."""
        return ResourceName(self.type_url, self.name)

    @property
    def body(self) -> bytes:
        """Return the serialised message."""
        return self.framed[len(self.framed) - self.body_size :]


def make_resource(
    type_url: str,
    name: str,
    body: bytes,
    origins: Iterable[Origin] = (),
    needs: Iterable[ResourceName] = (),
) -> Resource:
    """Frame *body*, a serialised message of *type_url*.

    Equal arguments give equal bytes; the order of *needs* does not matter.
    """
    origins, needs = tuple(origins), frozenset(needs)
    metadata = _metadata(origins, needs)
    digest = hashlib.blake2b(body, digest_size=8)
    if metadata:
        digest.update(framing.varint(len(metadata)) + metadata)
    version = digest.hexdigest()
    framed = framing.resource_field(type_url, name, version, metadata, body)
    return Resource(type_url, name, version, framed, len(body), origins, needs)


def encode_resource(
    type_url: str,
    name: str,
    content: Message,
    origins: Iterable[Origin] = (),
    needs: Iterable[ResourceName] = (),
) -> Resource:
    """Serialise *content*, of *type_url*, and frame it; see `make_resource`."""
    body = content.SerializeToString(deterministic=True)
    return make_resource(type_url, name, body, origins, needs)


def read_resource(received: discovery_pb2.Resource) -> Resource:
    """Return the resource of a response as its sender had it; the sender's version is kept."""
    body = received.resource.value
    metadata = received.metadata.SerializeToString(deterministic=True)
    meta = node_pb2.ResourceMeta.FromString(
        received.metadata.typed_filter_metadata[_META_KEY].value if metadata else b""
    )
    framed = framing.resource_field(
        received.resource.type_url, received.name, received.version, metadata, body
    )
    return Resource(
        received.resource.type_url,
        received.name,
        received.version,
        framed,
        len(body),
        tuple(map(decode_origin, meta.origins)),
        frozenset(ResourceName(n.type_url, name) for n in meta.needs for name in n.names),
    )


def _metadata(origins: tuple[Origin, ...], needs: frozenset[ResourceName]) -> bytes:
    """Return a serialised core.v3.Metadata with one entry, or b""."""
    if not origins and not needs:
        return b""
    meta = node_pb2.ResourceMeta()
    for need in sorted(needs):
        if not meta.needs or meta.needs[-1].type_url != need.type_url:
            meta.needs.add(type_url=need.type_url)
        meta.needs[-1].names.append(need.name)
    meta.origins.extend(map(encode_origin, origins))
    metadata = base_pb2.Metadata()
    entry = metadata.typed_filter_metadata[_META_KEY]
    entry.type_url = _META_TYPE_URL
    entry.value = meta.SerializeToString(deterministic=True)
    return metadata.SerializeToString(deterministic=True)
