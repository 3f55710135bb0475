"""What this node's Envoy is served, and what it said of it.

It is what the controller sent, with two differences: a listener inside a pod is there only while
that pod is registered (its network namespace must exist), and a resource that Envoy refused is
served in the version that it accepted before, so that a restarted Envoy has that again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from penstock.ads.store import SnapshotStore
from penstock.agent.admin import AdminUnavailableError, EnvoyAdmin
from penstock.envoy.runtime import LAYER
from penstock.meta.listeners import egress_name, ingress_name, pod_of
from penstock.pb.envoy.service.runtime.v3 import rtds_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource
from penstock.xds.snapshot import Delta
from penstock.xds.verdict import Accepted, Rejection, Verdict

CLOSE_SECONDS = 5.0
FRESH_SECONDS = 0.02
"""For how long the list of active listeners may be used again."""
_NO_ROOM = "cannot bind"
"""What Envoy says of a listener when somebody else has the port."""


def empty_runtime() -> Resource:
    """Return a runtime layer without keys: Envoy starts only when it has one."""
    return encode_resource(types.RUNTIME, LAYER, rtds_pb2.Runtime(name=LAYER))


class ResourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One resource for the command line."""

    type: str
    name: str
    intended: str
    """Version."""
    acked: str
    """Version that Envoy runs; "" is none."""
    rejected: str = ""
    """Why Envoy refused the intended version."""
    origins: tuple[str, ...] = ()


class EnvoyView:
    """The snapshot of the node's Envoy."""

    def __init__(
        self,
        node: str,
        store: SnapshotStore,
        admin: EnvoyAdmin,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Fill the snapshot of *node* in *store*.

        Args:
            node: Envoy's node id.
            store: what the node's ADS server serves.
            admin: asked which listeners accept.
            on_change: is told when Envoy accepted or refused something.
        """
        self._node = node
        self._store = store
        self._admin = admin
        self._on_change = on_change
        self._intended: dict[ResourceName, Resource] = {}
        self._accepted: dict[ResourceName, Resource] = {}
        """The last good version of each, also of an earlier Envoy."""
        self._runs: dict[ResourceName, str] = {}
        """Versions that the present Envoy runs."""
        self._rejections: dict[ResourceName, Rejection] = {}
        self._open: set[str] = set()
        self._asking = asyncio.Lock()
        self._active: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._runtime = empty_runtime()
        store.apply(node, Delta((self._runtime,)))

    @property
    def rejections(self) -> dict[ResourceName, Rejection]:
        """Return what Envoy refuses of the present resources."""
        return dict(self._rejections)

    def apply(self, delta: Delta) -> None:
        """Take resources of Envoy's types; others are passed over."""
        upserts: list[Resource] = []
        removals: list[ResourceName] = []
        for key in delta.removals:
            if self._intended.pop(key, None) is not None:
                self._rejections.pop(key, None)
                self._accepted.pop(key, None)
                removals.append(key)
        for resource in delta.upserts:
            if resource.type_url not in types.ENVOY_TYPES:
                continue
            self._intended[resource.key] = resource
            self._rejections.pop(resource.key, None)
            if self._visible(resource.key):
                upserts.append(resource)
        if self._runtime.key in removals:
            removals.remove(self._runtime.key)
            upserts.append(self._runtime)
        self._store.apply(self._node, Delta(tuple(upserts), tuple(removals)))

    def open(self, uid: str) -> None:
        """Serve the listeners of a pod."""
        self._open.add(uid)
        found = (self._intended.get(key) for key in _listeners_of(uid))
        self._store.apply(self._node, Delta(tuple(r for r in found if r is not None)))

    def close(self, uid: str) -> None:
        """Take the listeners of a pod away."""
        self._open.discard(uid)
        self._store.apply(self._node, Delta((), _listeners_of(uid)))
        for key in _listeners_of(uid):
            self._accepted.pop(key, None)
            self._rejections.pop(key, None)

    def offer_again(self) -> tuple[ResourceName, ...]:
        """Serve listeners for whose port there was no room as they are meant, and return them.

        In pods that is not tried: see `penstock.agent.hindrance`.
        """
        refused = tuple(
            key
            for key, rejection in self._rejections.items()
            if key.type_url == types.LISTENER
            and not pod_of(key.name)
            and _NO_ROOM in rejection.detail
        )
        self._store.apply(self._node, Delta(tuple(map(self._intended.__getitem__, refused))))
        return refused

    def on_connect(self) -> None:
        """Forget what Envoy runs: a new stream says it."""
        self._runs.clear()
        self._active = (float("-inf"), frozenset())
        self._on_change()

    def on_verdict(self, verdict: Verdict) -> None:
        """Note what Envoy said."""
        if isinstance(verdict, Accepted):
            self._took(verdict)
        elif isinstance(verdict, Rejection):
            self._refused(verdict)
        self._on_change()

    async def missing(self, uid: str) -> str:
        """Return why a listener of the pod does not accept; "" if all do."""
        for key in _listeners_of(uid):
            if key not in self._intended:
                return f"the controller has not sent the listener {key.name}"
            if rejection := self._rejections.get(key):
                return f"Envoy refused the listener {key.name}: {rejection.detail}"
        try:
            active = await self._active_listeners()
        except AdminUnavailableError as error:
            return str(error)
        for key in _listeners_of(uid):
            if key.name not in active:
                return f"Envoy has not opened the listener {key.name}"
            if self._runs.get(key) != self._intended[key].version:
                return f"Envoy has not taken the listener {key.name} as it is now"
        return ""

    async def _active_listeners(self) -> frozenset[str]:
        """Return the active listeners; many pods that wait ask Envoy once."""
        async with self._asking:
            asked, active = self._active
            if time.monotonic() - asked > FRESH_SECONDS:
                active = await self._admin.listeners()
                self._active = time.monotonic(), active
        return active

    async def closed(self, uid: str) -> None:
        """Return when Envoy has let go of the pod's listeners, after 5 s in any case."""
        names = {key.name for key in _listeners_of(uid)}
        deadline = time.monotonic() + CLOSE_SECONDS
        while time.monotonic() < deadline:
            try:
                if not names & await self._admin.listeners():
                    return
            except AdminUnavailableError:
                return
            await asyncio.sleep(0.02)

    def serves_gateways(self) -> bool:
        """Return whether Envoy has said its word on all listeners that are in no pod."""
        return all(
            key in self._rejections or self._runs.get(key) == resource.version
            for key, resource in self._intended.items()
            if key.type_url == types.LISTENER and not pod_of(key.name)
        )

    def states(self, kind: str = "") -> list[ResourceState]:
        """Return what Envoy should have of a type ("Cluster"), or of all for ""."""
        return [
            self._state(resource)
            for key, resource in sorted(self._intended.items())
            if kind in {"", types.short(key.type_url)} and self._visible(key)
        ]

    def _state(self, resource: Resource) -> ResourceState:
        rejection = self._rejections.get(resource.key)
        return ResourceState(
            type=types.short(resource.type_url),
            name=resource.name,
            intended=resource.version,
            acked=self._runs.get(resource.key, ""),
            rejected=rejection.detail if rejection else "",
            origins=tuple(map(str, resource.origins)),
        )

    def _visible(self, key: ResourceName) -> bool:
        if key.type_url != types.LISTENER:
            return True
        uid = pod_of(key.name)
        return not uid or uid in self._open

    def _took(self, accepted: Accepted) -> None:
        snapshot = self._store.peek(self._node)
        for name, version in accepted.versions.items():
            key = ResourceName(accepted.type_url, name)
            self._runs[key] = version
            rejection = self._rejections.get(key)
            if rejection is not None and rejection.version == version:
                del self._rejections[key]  # as of a new Envoy, where what was in the way is gone
            resource = snapshot.get(accepted.type_url, name)
            if resource is not None and resource.version == version:
                self._accepted[resource.key] = resource
        for name in accepted.removed:
            self._accepted.pop(ResourceName(accepted.type_url, name), None)
            self._runs.pop(ResourceName(accepted.type_url, name), None)

    def _refused(self, rejection: Rejection) -> None:
        intended = self._intended.get(rejection.key)
        if intended is None or intended.version != rejection.version:
            return
        self._rejections[rejection.key] = rejection
        if last_good := self._accepted.get(rejection.key):
            self._store.apply(self._node, Delta((last_good,)))


def _listeners_of(uid: str) -> tuple[ResourceName, ResourceName]:
    return (
        ResourceName(types.LISTENER, egress_name(uid)),
        ResourceName(types.LISTENER, ingress_name(uid)),
    )
