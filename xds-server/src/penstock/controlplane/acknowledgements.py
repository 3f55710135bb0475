"""What the data plane says of resources, summed up for the objects that they come from.

Two things are known of a node: what it was sent (the agent has it) and what its Envoy said, which
the agent reports. A resource that Envoy has not judged yet is pending; our own types are done when
the agent has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penstock.compiler.statuses import DATA_PLANE_ACKED
from penstock.meta.conditions import Condition
from penstock.meta.names import ObjectRef
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, ResourceName


class ResourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One resource at one node."""

    resource: Resource
    acked: str | None
    """Version that the node runs; None if none."""
    rejected: str | None
    """Why it refused the current version, in its words."""

    @property
    def done(self) -> bool:
        """Tell whether the node runs the current version."""
        return self.acked == self.resource.version


class _Node:
    def __init__(self) -> None:
        self.stream: DeltaStream | None = None
        self.reported: dict[ResourceName, node_pb2.ResourceReport] = {}


class Acknowledgements:
    """Verdicts of all nodes; also the hooks of the ADS server."""

    def __init__(self) -> None:
        """Know of no node."""
        self._nodes: dict[str, _Node] = {}
        self.changes = 0
        """How often a node came, went or said something."""
        self.acks = 0
        """Responses that agents took."""
        self.nacks = 0
        """Resources that agents refused."""

    @property
    def connected(self) -> dict[str, bool]:
        """Return node → whether its agent is connected."""
        return {name: node.stream is not None for name, node in sorted(self._nodes.items())}

    @property
    def refused_by_envoys(self) -> int:
        """Return the number of resources that an Envoy refuses now."""
        every = (one for node in self._nodes.values() for one in node.reported.values())
        return sum(bool(one.rejected_version) for one in every)

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        """Remember the stream of an agent."""
        self.changes += 1
        self._nodes.setdefault(node, _Node()).stream = stream

    def on_disconnect(self, node: str, stream: DeltaStream) -> None:
        """Forget the stream of an agent; what Envoy said stays."""
        self.changes += 1
        known = self._nodes.get(node)
        if known is not None and known.stream is stream:
            known.stream = None

    def on_ack(self, node: str, accepted: object) -> None:  # noqa: ARG002  # the ADS server's signature
        """Count it: the stream itself is asked when somebody wants to know."""
        self.changes += 1
        self.acks += 1

    def on_reject(self, node: str, rejection: object) -> None:  # noqa: ARG002  # the ADS server's signature
        """Count it, as in on_ack."""
        self.changes += 1
        self.nacks += 1

    def on_clear(self, node: str, cleared: object) -> None:  # noqa: ARG002  # the ADS server's signature
        """Count it, as in on_ack."""
        self.changes += 1

    def on_report(self, node: str, report: node_pb2.NodeReport, full: bool) -> None:  # noqa: FBT001 - signature of the ADS server
        """Take what an agent says of its Envoy."""
        self.changes += 1
        known = self._nodes.setdefault(node, _Node())
        if full:
            known.reported.clear()
        for one in report.resources:
            known.reported[ResourceName(one.type_url, one.name)] = one

    def states(self, node: str, resources: Iterable[Resource]) -> list[ResourceState]:
        """Return the state of *resources* at *node*."""
        known = self._nodes.get(node) or _Node()
        held = known.stream.acked if known.stream is not None else {}
        return [self._state(known, held, resource) for resource in resources]

    def _state(
        self, known: _Node, held: dict[str, dict[str, str]], resource: Resource
    ) -> ResourceState:
        if resource.type_url in types.NODE_TYPES:
            acked = held.get(resource.type_url, {}).get(resource.name)
            return ResourceState(resource=resource, acked=acked, rejected=None)
        report = known.reported.get(resource.key)
        if report is None:
            return ResourceState(resource=resource, acked=None, rejected=None)
        refused = report.detail if report.rejected_version == resource.version else None
        return ResourceState(resource=resource, acked=report.version or None, rejected=refused)


def by_object(states: Iterable[ResourceState]) -> dict[ObjectRef, list[ResourceState]]:
    """Return the states by the objects that their resources come from."""
    found: dict[ObjectRef, list[ResourceState]] = {}
    for state in states:
        for ref in {origin.object for origin in state.resource.origins}:
            found.setdefault(ref, []).append(state)
    return found


def summary(states: Sequence[ResourceState]) -> Condition | None:
    """Return the condition DataPlaneAcked of one object; None if nothing comes from it."""
    if not states:
        return None
    refused = [one for one in states if one.rejected is not None]
    if refused:
        first = refused[0]
        text = f"{types.short(first.resource.type_url)} {first.resource.name}: {first.rejected}"
        return Condition(type=DATA_PLANE_ACKED, status=False, reason="Rejected", message=text)
    done = sum(one.done for one in states)
    if done < len(states):
        text = f"{done} of {len(states)} resources are in force"
        return Condition(type=DATA_PLANE_ACKED, status=None, reason="Pending", message=text)
    text = f"{done} resources are in force"
    return Condition(type=DATA_PLANE_ACKED, status=True, reason="Acked", message=text)
