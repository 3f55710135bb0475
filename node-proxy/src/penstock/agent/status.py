"""What the agent says about itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from penstock.agent.datapath import NodeDatapath
from penstock.agent.envoy_process import EnvoyStatus
from penstock.agent.envoy_view import EnvoyView, ResourceState
from penstock.agent.flows import FlowLog
from penstock.agent.pods import Pods
from penstock.agent.store import NodeStore
from penstock.xds import types


class TypeCount(msgspec.Struct, frozen=True):
    """How many resources of one type there are."""

    intended: int
    acked: int
    """Those that Envoy runs as intended; of our own types, those that were taken."""
    rejected: int


class PodStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One registered pod."""

    uid: str
    namespace: str
    name: str
    identity: int | None
    """None while it is closed."""
    missing: str
    """Why the kernel's part of it is not in place; "" if it is."""
    policed: bool = True
    """False for pods of Penstock itself, which nobody judges."""


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to GET /v1/status."""

    node: str
    datapath: bool
    controller_connected: bool
    envoy: EnvoyStatus
    envoy_connected: bool
    pods: list[PodStatus]
    resources: dict[str, TypeCount]
    counters: dict[str, int]
    failures: dict[str, str]
    """What the kernel refused, and why."""


class Snapshot(msgspec.Struct, frozen=True):
    """Answer to GET /v1/snapshot."""

    node: str
    resources: list[ResourceState]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What changes, asked when it is wanted."""

    controller_connected: Callable[[], bool]
    envoy_connected: Callable[[], bool]
    envoy: Callable[[], EnvoyStatus]
    counters: Callable[[], dict[str, int]]


class StatusView:
    """Joins the parts into answers; see `penstock.agent.api.NodeView`."""

    def __init__(
        self,
        node: str,
        *,
        facts: Facts,
        store: NodeStore,
        view: EnvoyView,
        pods: Pods,
        state: NodeDatapath,
        flows: FlowLog,
        datapath: bool,
    ) -> None:
        """Ask the arguments."""
        self._node = node
        self._facts = facts
        self._store = store
        self._view = view
        self._pods = pods
        self._state = state
        self._flows = flows
        self._datapath = datapath

    def status(self) -> NodeStatus:
        """Return the answer to GET /v1/status."""
        flows = {"flows": self._flows.total, "flows_dropped": self._flows.dropped}
        return NodeStatus(
            node=self._node,
            datapath=self._datapath,
            controller_connected=self._facts.controller_connected(),
            envoy=self._facts.envoy(),
            envoy_connected=self._facts.envoy_connected(),
            pods=self._pod_states(),
            resources=self._counts(),
            counters=self._facts.counters() | flows,
            failures=dict(self._state.failures),
        )

    def snapshot(self, kind: str) -> Snapshot:
        """Return the resources of one type, or of all for ""."""
        ours = [
            ResourceState(
                type=types.short(resource.type_url),
                name=resource.name,
                intended=resource.version,
                acked=resource.version,
                origins=tuple(map(str, resource.origins)),
            )
            for resource in self._store.snapshot
            if resource.type_url in types.NODE_TYPES
            and kind in {"", types.short(resource.type_url)}
        ]
        return Snapshot(self._node, self._view.states(kind) + ours)

    def _pod_states(self) -> list[PodStatus]:
        return [
            PodStatus(
                uid=uid,
                namespace=pod.request.namespace,
                name=pod.request.name,
                identity=self._state.enforced_identity(uid),
                missing=self._state.missing(uid),
                policed=pod.policed,
            )
            for uid, pod in sorted(self._pods.registered().items())
        ]

    def _counts(self) -> dict[str, TypeCount]:
        intended: Counter[str] = Counter()
        acked: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        for state in self.snapshot("").resources:
            intended[state.type] += 1
            acked[state.type] += state.acked == state.intended
            rejected[state.type] += state.rejected != ""
        return {
            kind: TypeCount(count, acked[kind], rejected[kind])
            for kind, count in sorted(intended.items())
        }
