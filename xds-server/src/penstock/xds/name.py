"""The name of a resource, whatever its version."""

from __future__ import annotations

import msgspec

from penstock.xds import types


class ResourceName(msgspec.Struct, frozen=True, order=True, gc=False):
    """A resource whatever its version."""

    type_url: str
    name: str

    def __str__(self) -> str:
        """Return "Cluster name"."""
        return f"{types.short(self.type_url)} {self.name}"
