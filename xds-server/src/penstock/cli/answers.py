"""What the controller and the agent answer, as far as the command line reads it.

Unknown members are passed over, missing ones have a default: the two may be of other versions.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.meta.names import ObjectRef
from penstock.meta.problems import Location


class NodeHealth(msgspec.Struct, frozen=True):
    """A node as the controller sees it."""

    connected: bool = False


class Health(msgspec.Struct, frozen=True):
    """GET /v1/health of the controller."""

    synced: bool = False
    objects: int = 0
    problems: int = 0
    nodes: dict[str, NodeHealth] = {}


class ConditionView(msgspec.Struct, frozen=True, rename="camel"):
    """A condition in a status."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""

    @property
    def is_as_wanted(self) -> bool:
        """Return whether it says nothing bad; what is not known yet does."""
        return self.status == ("False" if self.type in _BAD_IF_TRUE else "True")

    @property
    def is_bad(self) -> bool:
        """Return whether something is wrong for certain."""
        return self.status in ("True", "False") and not self.is_as_wanted


_BAD_IF_TRUE = frozenset({"Overlapped", "PartiallyInvalid"})


class Items(msgspec.Struct, frozen=True):
    """GET /v1/objects of the controller: objects as Kubernetes writes them, with `location`."""

    items: list[dict[str, Any]] = []


class ProblemView(msgspec.Struct, frozen=True):
    """A mistake in a file, as the controller tells it."""

    file: str
    line: int
    message: str
    column: int = 1
    ref: ObjectRef | None = None
    path: str = ""
    hint: str = ""
    severity: str = "error"

    @property
    def place(self) -> str:
        """Return "file:line:column", or where objects are that are in no file."""
        if not self.file:
            return "API server"
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def text(self) -> str:
        """Return what is wrong, where in the object, and what to do."""
        about = f"{self.ref}: " if self.ref is not None else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{about}{path}{self.message}{hint}"


class Problems(msgspec.Struct, frozen=True):
    """GET /v1/problems of the controller."""

    items: list[ProblemView] = []


class IntendedResource(msgspec.Struct, frozen=True):
    """A resource of a node, as the controller means it."""

    type_url: str
    name: str
    version: str
    origins: list[str] = []
    acked: str | None = None
    rejected: str | None = None


class IntendedSnapshot(msgspec.Struct, frozen=True):
    """GET /v1/snapshot of the controller."""

    node: str
    resources: list[IntendedResource] = []


class NodeResource(msgspec.Struct, frozen=True):
    """A resource as the agent holds it: see `penstock.agent.envoy_view.ResourceState`."""

    type: str
    name: str
    intended: str
    acked: str = ""
    rejected: str = ""
    origins: list[str] = []


class PeerView(msgspec.Struct, frozen=True):
    """One end of a flow."""

    identity: int = 0
    namespace: str = ""
    pod: str = ""
    address: str = ""
    port: int = 0
    service: str = ""
    labels: dict[str, str] = {}


class FlowView(msgspec.Struct, frozen=True):
    """One line of GET /v1/flows of the agent: see `penstock.agent.flows.Flow`."""

    time: float
    verdict: str
    source: PeerView
    destination: PeerView
    node: str = ""
    direction: int = 0
    protocol: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    status: int = 0
    duration: float = 0.0
    reason: str = ""
    policies: list[str] = []


def conditions_of(status: dict[str, Any]) -> dict[str, ConditionView]:
    """Return the conditions of a status by type; of several parents or ancestors, the first's."""
    found = status.get("conditions")
    if found is None:
        entries = status.get("parents") or status.get("ancestors") or [{}]
        found = entries[0].get("conditions")
    return {one.type: one for one in msgspec.convert(found or [], list[ConditionView])}


def location_of(item: dict[str, Any]) -> Location | None:
    """Return where an object of `Items` is written."""
    place = item.get("location")
    return msgspec.convert(place, Location) if place else None
