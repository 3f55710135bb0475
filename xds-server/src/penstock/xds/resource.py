"""Resources: what a node is sent, serialised once, and framed once when it is first sent.

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
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import framing
from penstock.xds.metadata import META_KEY
from penstock.xds.metadata import metadata as encode_metadata
from penstock.xds.name import ResourceName
from penstock.xds.origins import decode_origin

__all__ = ["Resource", "ResourceName", "encode_resource", "make_resource", "read_resource"]


class Resource(msgspec.Struct, eq=False):
    """One version of one resource; nobody changes it.

    It is framed when its version or its frame is first asked for: at the start of a controller
    there are tens of thousands, and the first responses need a part of them.
    """

    type_url: str
    name: str
    body_size: int
    """Length in bytes of the serialised message, the last part of `framed`."""
    origins: tuple[Origin, ...]
    """Objects of the user that it comes from."""
    needs: frozenset[ResourceName]
    """What a client must have accepted before it is sent this."""
    _bytes: bytes
    """The serialised message, until it is framed; then `framed`."""
    _version: str | None = None
    """None until it is framed."""

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same bytes on the wire."""
        return isinstance(other, Resource) and self.framed == other.framed

    def __hash__(self) -> int:
        """Return the hash of the name."""
        return hash((self.type_url, self.name))

    def __repr__(self) -> str:
        """Return what it is, not what it holds: that may be a key."""
        return f"Resource({self.key}, version={self.version!r})"

    @property
    def key(self) -> ResourceName:
        """Return type and name."""
        return ResourceName(self.type_url, self.name)

    @property
    def version(self) -> str:
        """Return the hash of body, needs and origins, in hex.

        Equal content has equal versions everywhere.
        """
        return self._frame() if self._version is None else self._version

    @property
    def framed(self) -> bytes:
        """Return a whole `resources` field of a DeltaDiscoveryResponse."""
        if self._version is None:
            self._frame()
        return self._bytes

    @property
    def body(self) -> bytes:
        """Return the serialised message."""
        return self._bytes[len(self._bytes) - self.body_size :]

    def or_equal(self, other: Resource) -> Resource:
        """Return this, not framed for the comparison, if *other* is equal, else *other*.

        Of two that are equal, this one and what *other* shares with others stay in memory.
        """
        if (
            (self.type_url, self.name) != (other.type_url, other.name)
            or self.body != other.body
            or self.origins != other.origins
            or self.needs != other.needs
        ):
            return other
        self.name, self.origins, self.needs = other.name, other.origins, other.needs
        return self

    def _frame(self) -> str:
        body = self._bytes
        metadata = encode_metadata(self.origins, self.needs)
        digest = hashlib.blake2b(body, digest_size=8)
        if metadata:
            digest.update(framing.varint(len(metadata)) + metadata)
        version = digest.hexdigest()
        self._bytes = framing.resource_field(self.type_url, self.name, version, metadata, body)
        self._version = version
        return version


def make_resource(
    type_url: str,
    name: str,
    body: bytes,
    origins: Iterable[Origin] = (),
    needs: Iterable[ResourceName] = (),
) -> Resource:
    """Return *body*, a serialised message of *type_url*, as a resource.

    Equal arguments give equal bytes; the order of *needs* does not matter.
    """
    return Resource(type_url, name, len(body), tuple(origins), frozenset(needs), body)


def encode_resource(
    type_url: str,
    name: str,
    content: Message,
    origins: Iterable[Origin] = (),
    needs: Iterable[ResourceName] = (),
) -> Resource:
    """Serialise *content*, of *type_url*; see `make_resource`."""
    body = content.SerializeToString(deterministic=True)
    return make_resource(type_url, name, body, origins, needs)


def read_resource(received: discovery_pb2.Resource) -> Resource:
    """Return the resource of a response as its sender had it; the sender's version is kept."""
    body = received.resource.value
    metadata = received.metadata.SerializeToString(deterministic=True)
    meta = node_pb2.ResourceMeta.FromString(
        received.metadata.typed_filter_metadata[META_KEY].value if metadata else b""
    )
    framed = framing.resource_field(
        received.resource.type_url, received.name, received.version, metadata, body
    )
    return Resource(
        received.resource.type_url,
        received.name,
        len(body),
        tuple(map(decode_origin, meta.origins)),
        frozenset(ResourceName(n.type_url, name) for n in meta.needs for name in n.names),
        framed,
        received.version,
    )
