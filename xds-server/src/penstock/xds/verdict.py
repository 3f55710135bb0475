"""What a client said of what it was sent."""

from __future__ import annotations

import msgspec

from penstock.meta.names import Origin
from penstock.xds.resource import ResourceName


class Accepted(msgspec.Struct, frozen=True):
    """The client runs these versions now; ends an earlier Rejection of the same resource."""

    type_url: str
    versions: dict[str, str]
    """Name to version."""
    removed: tuple[str, ...] = ()
    """Names that the client no longer has."""
    brought: bool = False
    """The client has them from an earlier stream."""


class Rejection(msgspec.Struct, frozen=True):
    """The client refused one version of a resource and keeps the last one it accepted, if any."""

    key: ResourceName
    version: str
    origins: tuple[Origin, ...]
    detail: str
    """Why, in the client's words."""

    def __str__(self) -> str:
        """Return "Cluster name: detail"."""
        return f"{self.key}: {self.detail}"


class Cleared(msgspec.Struct, frozen=True):
    """A Rejection no longer holds though nothing was accepted: what was refused is not wanted."""

    key: ResourceName


Verdict = Accepted | Rejection | Cleared
