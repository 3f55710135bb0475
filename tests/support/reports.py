"""What reports of nodes say, one resource after the other."""

from __future__ import annotations

from penstock.controlplane.words import Said, read_word
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.name import ResourceName


def rows(report: node_pb2.NodeReport) -> dict[ResourceName, Said]:
    """Return what a report says of each resource."""
    found = list(read_word(report).each())
    assert len(found) == len(dict(found)), "a resource is told of twice"
    return dict(found)
