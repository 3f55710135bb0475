"""What nodes say of resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds.name import ResourceName


class Said(msgspec.Struct, frozen=True):
    """A node's last word on one resource."""

    version: str = ""
    """What is in force there; "" is nothing."""
    rejected: str = ""
    """Another version that was refused; "" is none."""
    detail: str = ""
    """Why it was."""


NOTHING = Said()


class Word(msgspec.Struct, frozen=True):
    """What a node says of many resources at once: of each in one of the two ways."""

    in_force: Mapping[str, Mapping[str, str]]
    """Type, then name, to the version that is in force; nothing of it is refused."""
    others: Mapping[ResourceName, Said]

    def each(self) -> Iterator[tuple[ResourceName, Said]]:
        """Yield what is said of each resource."""
        for type_url, versions in self.in_force.items():
            for name, version in versions.items():
                yield ResourceName(type_url, name), Said(version)
        yield from self.others.items()


def read_word(report: node_pb2.NodeReport) -> Word:
    """Return what a report says."""
    others = {
        ResourceName(one.type_url, one.name): Said(one.version, one.rejected_version, one.detail)
        for one in report.resources
    }
    in_force: dict[str, Mapping[str, str]] = {}
    for one in report.in_force:
        known = in_force.get(one.type_url)
        in_force[one.type_url] = {**known, **one.versions} if known else dict(one.versions)
    return Word(in_force, others)
