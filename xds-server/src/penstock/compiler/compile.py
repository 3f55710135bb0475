"""The compiler: events in, changes of resources out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

from penstock.compiler import roots
from penstock.compiler.backend_statuses import POLICIES
from penstock.compiler.broken import leads_to, targets_of
from penstock.compiler.database import Database
from penstock.compiler.generated_objects import GeneratedGoal, GeneratedObjects
from penstock.compiler.ingresses import IngressTable
from penstock.compiler.lent import Sharing, parts_from_the_end, read_part
from penstock.compiler.nodes import set_node
from penstock.compiler.published import Made, NodeChange, Published, made_for
from penstock.compiler.roots import Output, Outputs, Root, RootQuery
from penstock.compiler.selected import set_ready
from penstock.compiler.settings import Settings
from penstock.compiler.status_goals import StatusGoal, StatusGoals
from penstock.compiler.usable_secrets import NOW
from penstock.compiler.workloads import WorkloadTable
from penstock.core.events import Event, EventType
from penstock.core.kinds import Namespace
from penstock.core.nodes import Node
from penstock.core.objects import Broken, Object
from penstock.core.pods import Pod
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.incremental import engine
from penstock.incremental.collection import Collection
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.xds.resource import Resource

K = TypeVar("K", NamespacedName, ObjectRef)


class Compiler:
    """Holds the database and tells what a batch of events changes."""

    def __init__(self, settings: Settings | None = None, sharing: Sharing | None = None) -> None:
        """Start without any object; what is always there comes with the first batch.

        Args:
            settings: of the cluster.
            sharing: with whom the work on the first large batch is shared; None is with nobody.
        """
        self.db = Database(settings or Settings())
        self.failures: dict[str, Exception] = {}
        """What could not be compiled because of a mistake of ours, by query and key.

        The last good version stays.
        """
        self.statuses = StatusGoals(self.db)
        """Filled by whoever writes statuses."""
        self.generated = GeneratedObjects(self.db)
        """Followed by whoever makes them."""
        self._plain = _plain(self.db)
        self._tolerant = _tolerant(self.db)
        self._roots: dict[Root, engine.Node] = {}
        self._pending: dict[Root, bool] = {Root(roots.of_node, None): True}
        self._behind: dict[Root, None] = {}
        """Those of which there is only what a helper has lent, in order."""
        self._outputs: dict[Root, Outputs] = {}
        self._published = Published()
        self._sharing = sharing
        self._watch()
        self._workloads = WorkloadTable(self.db)
        self._ingresses = IngressTable(self.db)

    def apply(self, events: Iterable[Event]) -> tuple[NodeChange, ...]:
        """Take events in and return what changes for nodes, sorted by node.

        The work is in proportion to what the events change, whatever else there is; but what a
        helper has lent is compiled before, so that nobody sees a change by halves.
        """
        self._settle_behind(len(self._behind))
        for event in events:
            self._take(event)
            self._ingresses.take(event)
        self._ingresses.settle()
        self._settle_roots()
        while changed := self.db.engine.refresh_goals():
            for node in changed:
                self._goal_changed(node)
            self._settle_roots()
        return self._published.changes()

    @property
    def behind(self) -> int:
        """Return of how many roots there is only what a helper has lent, until `catch_up`."""
        return len(self._behind)

    def catch_up(self, count: int) -> tuple[NodeChange, ...]:
        """Compile what a helper has lent for *count* more roots, and return what changes for nodes.

        That is nothing, but for what only the helper has made.
        """
        self._settle_behind(count)
        return self._published.changes()

    def tell_time(self, now: int) -> tuple[NodeChange, ...]:
        """Take the present time, seconds since 1970: a certificate may be out of date now."""
        self.db.time.set(NOW, now)
        return self.apply(())

    def tell_refused(self, ref: ObjectRef, why: str) -> tuple[NodeChange, ...]:
        """Take why the API server does not take an object that is generated, "" if it does."""
        if why:
            self.db.refused.set(ref, why)
        else:
            self.db.refused.remove(ref)
        return self.apply(())

    def resources(self, node: str) -> tuple[Resource, ...]:
        """Return all resources of *node*, sorted by type and name."""
        return tuple(sorted(self._published.of_node(node), key=lambda r: (r.type_url, r.name)))

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of the nodes that have resources of their own, sorted."""
        return self._published.nodes

    def _watch(self) -> None:
        """Have a root for each key of the collections that resources come from."""
        db = self.db

        def follow(query: RootQuery) -> Callable[[Any, bool], None]:
            return lambda key, there: self._pending.__setitem__(Root(query, key), there)

        db.services.on_key = follow(roots.of_service)
        db.workloads.on_key = follow(roots.of_workload)
        db.identities.on_key = follow(roots.of_identity)
        db.gateways.on_key = follow(roots.of_gateway)
        db.hostnames.on_key = follow(roots.of_hostname)
        db.secrets.on_key = follow(roots.of_secret)
        db.peers.on_key = follow(roots.of_peer)
        db.externals.on_key = follow(roots.of_external)

    def _take(self, event: Event) -> None:
        """Put one event into the collections; kinds that nodes do not depend on are passed over."""
        thing, gone = event.object, event.type is EventType.DELETED
        kind = thing.kind
        match kind:
            case "Pod":
                self._take_pod(thing, gone=gone)
            case "Namespace":
                labels = thing.metadata.labels if isinstance(thing, Namespace) else {}
                self._workloads.set_namespace(thing.metadata.name, None if gone else labels)
                self._store(self.db.namespaces, thing, gone=gone)
            case "Node":
                node = thing if isinstance(thing, Node) and not gone else None
                set_node(self.db, thing.metadata.name, node)
            case _:
                self._take_plain(kind, thing, gone=gone)

    def _take_plain(self, kind: str, thing: Object | Broken, *, gone: bool) -> None:
        if kind in ROUTE_KINDS:
            self._put(self.db.routes, thing.ref, thing, gone=gone)
        elif kind in self._plain:
            self._store(self._plain[kind], thing, gone=gone)
            if kind in POLICIES:
                self._take_broken_policy(None if gone else thing, thing.ref)
        elif kind in (Gateway.kind, ListenerSet.kind):
            self._take_holder(thing, gone=gone)
        elif kind in self._tolerant:
            self._put(self._tolerant[kind], thing.key, thing, gone=gone)

    def _take_broken_policy(self, present: Object | Broken | None, ref: ObjectRef) -> None:
        """Take a policy that cannot be read, or forget that one could not be."""
        broken = present if isinstance(present, Broken) else None
        if broken is None:
            self.db.broken_policies.remove(ref)
        else:
            self.db.broken_policies.set(ref, targets_of(broken))
        if ref.kind == BackendTLSPolicy.kind:
            self._put(self.db.broken_backend_tls, ref.key, present, gone=broken is None)

    def _put(
        self, to: Collection[K, Any], key: K, thing: Object | Broken | None, *, gone: bool
    ) -> None:
        """Put an object, broken or not: a broken one still closes what it was meant for."""
        if gone:
            to.remove(key)
        else:
            to.set(key, thing)

    def _store(
        self, collection: Collection[NamespacedName, Any], thing: Object | Broken, *, gone: bool
    ) -> None:
        if gone or isinstance(thing, Broken):
            collection.remove(thing.key)
        else:
            collection.set(thing.key, thing)

    def _take_holder(self, thing: Object | Broken, *, gone: bool) -> None:
        """Take a Gateway or a ListenerSet; of a broken one it is known whose it is."""
        present = None if gone else thing
        if thing.ref.kind == Gateway.kind:
            self.db.put_gateway(thing.key, present if isinstance(present, Gateway) else None)
        else:
            added = present if isinstance(present, ListenerSet) else None
            self.db.put_listener_set(thing.key, added)
        if isinstance(present, Broken):
            self.db.broken_holders.set(thing.ref, leads_to(present))
        else:
            self.db.broken_holders.remove(thing.ref)

    def _take_pod(self, thing: Object | Broken, *, gone: bool) -> None:
        pod = thing if isinstance(thing, Pod) and not gone else None
        set_ready(self.db, thing.key, pod)
        if pod is None:
            self._workloads.remove_pod(thing.key)
        else:
            self._workloads.set_pod(pod)

    def _settle_roots(self) -> None:
        pending, self._pending = self._pending, {}
        if self._sharing is not None and len(pending) >= self._sharing.many:
            pending = self._share(self._sharing, pending)
        for root, there in pending.items():
            self._settle(root, there=there)

    def _settle_behind(self, count: int) -> None:
        if self._behind:
            for root in tuple(islice(self._behind, count)):
                del self._behind[root]
                self._settle(root, there=True)
            if not self._behind:
                self._published.end_loans()

    def _share(self, sharing: Sharing, pending: dict[Root, bool]) -> dict[Root, bool]:
        """Settle the new roots of *pending* together with a helper, if many; return the rest."""
        new = [root for root, there in pending.items() if there and root not in self._roots]
        if len(new) < sharing.many:
            return pending
        self._sharing = None  # later there is too much in memory to have it twice
        rest = {root: there for root, there in pending.items() if root in self._roots}
        helper, done, end = sharing.helper, 0, len(new)
        helper.start(parts_from_the_end(self.db, new, sharing.part))
        try:
            while True:
                for part in map(read_part, helper.received()):
                    end = part.first
                    for lent in part.lent:
                        self._published.lend(lent.node, lent.resource())
                    rest |= dict.fromkeys((new[position] for position in part.failed), True)
                if done >= end:
                    break
                for root in new[done : done + sharing.part]:
                    self._settle(root, there=True)
                done += sharing.part
        finally:
            helper.stop()
        self._behind = dict.fromkeys(root for root in new[done:] if root not in rest)
        return rest

    def _settle(self, root: Root, *, there: bool) -> None:
        node = self._roots.get(root)
        if there and node is None:
            node = self._roots[root] = root.query.node(self.db, root.key)
            self.db.engine.want(node, root)
            self._goal_changed(node)
        elif not there and node is not None:
            del self._roots[root]
            self.failures.pop(str(node), None)
            self.db.engine.unwant(node)
            self._reconcile(root, ())

    def _goal_changed(self, node: engine.Node) -> None:
        goal = node.goal
        if node.failure is not None or self.failures:
            name = str(node)
            if node.failure is not None:
                self.failures[name] = node.failure
                return
            self.failures.pop(name, None)
        if isinstance(goal, Made):
            node.value = self._published.replace(goal, node.value)
        elif isinstance(goal, Root):
            self._reconcile(goal, node.value)
        elif isinstance(goal, StatusGoal):
            self.statuses.note(goal)
        elif isinstance(goal, GeneratedGoal):
            self.generated.note(node.value)

    def _reconcile(self, root: Root, outputs: Outputs) -> None:
        """Want exactly *outputs* because of *root*, beside what other roots want."""
        before = self._outputs.pop(root, ())
        if outputs:
            self._outputs[root] = outputs
        had = frozenset(before)
        for output in outputs:
            if not had or output not in had:
                self._want(output)
        kept = frozenset(outputs if before else ())
        for output in before:
            if output not in kept:
                self._unwant(output)

    def _want(self, output: Output) -> None:
        """Give an output to its node; the same one may be there for other nodes already."""
        node = output.query.node(self.db, output.key)
        made = node.goal
        if made is None or not isinstance(made, Made):
            self.db.engine.want(node, made_for(output.node))
            self._goal_changed(node)
        elif made.want(output.node):
            self._published.add(made, output.node)

    def _unwant(self, output: Output) -> None:
        node = output.query.node(self.db, output.key)
        made = node.goal
        if not isinstance(made, Made) or not made.unwant(output.node):
            return
        self._published.withdraw(made, output.node)
        if not made.wanted:
            self.failures.pop(str(node), None)
            self.db.engine.unwant(node)


def _plain(db: Database) -> dict[str, Collection[NamespacedName, Any]]:
    """Return the collections of kinds of which a broken object counts as none."""
    return {
        "Service": db.services,
        "EndpointSlice": db.slices,
        "GatewayClass": db.gateway_classes,
        "CustomResourceDefinition": db.crds,
        "ServiceCIDR": db.service_cidrs,
        "BackendTLSPolicy": db.backend_tls,
        "XBackendTrafficPolicy": db.backend_traffic,
        "XTelemetryPolicy": db.telemetry,
        "ReferenceGrant": db.grants,
    }


def _tolerant(db: Database) -> dict[str, Collection[NamespacedName, Any]]:
    """Return the collections of kinds of which a broken object counts, too."""
    return {
        "CiliumNetworkPolicy": db.policies,
        "CiliumClusterwideNetworkPolicy": db.policies,
        "Secret": db.secrets,
        "ConfigMap": db.config_maps,
        "ClusterTrustBundle": db.trust_bundles,
        "XBackend": db.externals,
    }
