"""Origins as they travel in our own messages."""

from __future__ import annotations

from penstock.meta.names import ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2


def encode_origin(origin: Origin) -> node_pb2.Origin:
    """Return *origin* as a message."""
    ref = origin.object
    return node_pb2.Origin(kind=ref.kind, namespace=ref.namespace, name=ref.name, path=origin.path)


def decode_origin(sent: node_pb2.Origin) -> Origin:
    """Return the origin in a message."""
    return Origin(ObjectRef(sent.kind, sent.namespace, sent.name), sent.path)
