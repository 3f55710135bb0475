"""What one client has, may have and waits for; the rules are in `penstock.xds.delta`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from penstock.meta.listeners import pod_of
from penstock.xds import types
from penstock.xds.checkpoint import Checkpoint, Difference
from penstock.xds.deadlines import Deadlines
from penstock.xds.needs import HeldNeeds
from penstock.xds.resource import Resource, ResourceName
from penstock.xds.snapshot import Snapshot
from penstock.xds.subscription import Subscription
from penstock.xds.verdict import Cleared, Verdict


def endpoints_named(cluster: Resource) -> tuple[str, ...]:
    """Return the names of a cluster's endpoints where they are not that of the cluster itself."""
    return tuple(need.name for need in cluster.needs if need.type_url == types.ENDPOINTS)


class Client:
    """The client of one stream, beside the snapshot that it is served."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Know a client that has not asked for anything."""
        self.snapshot = snapshot
        self.subscriptions: dict[str, Subscription] = {}
        self.held = HeldNeeds()
        self.deadlines = Deadlines()
        self.verdicts: list[Verdict] = []
        """What it said and nobody was told yet."""
        self.whole_by = 0.0
        """When it is told that it has everything at the latest, though changes never end."""
        self._waiters: dict[ResourceName, dict[ResourceName, None]] = {}

    def brought(
        self, subscription: Subscription, versions: Mapping[str, str]
    ) -> tuple[Mapping[str, str], AbstractSet[str]] | None:
        """Take what a client has that asks for all of a type; None if that is like no other client.

        Returns what it has otherwise than others, and the names of those to look at: all the rest
        is as it should be, and held once for all clients.
        """
        point, changed = self.snapshot.checkpoint(subscription.type_url)
        difference = point.compare(versions)
        if subscription.acked or len(difference) > len(point.versions) // 2:
            return None
        self._rebase(subscription, point, difference)
        return difference.other, changed | difference.missing

    def share(self, subscription: Subscription) -> None:
        """Hold what the client has together with others, if that is much and all is at rest."""
        acked = subscription.acked
        if acked.own < acked.due or subscription.dirty or subscription.in_flight:
            return
        point, _ = self.snapshot.checkpoint(subscription.type_url)
        self._rebase(subscription, point, point.compare(acked))

    def _rebase(
        self, subscription: Subscription, point: Checkpoint, difference: Difference
    ) -> None:
        subscription.acked.rebase(point, difference)
        self.held.rebase(subscription.type_url, point, difference)

    def settled(self, key: ResourceName) -> bool:
        """Return whether the client has the current version of *key*, and its endpoints.

        Also true if nothing is to be waited for: the client refused it, or does not ask for the
        type, or it does not exist.
        """
        resource = self.snapshot.get(key.type_url, key.name)
        subscription = self.subscriptions.get(key.type_url)
        if resource is None or subscription is None or not subscription.wants(key.name):
            return True
        if subscription.acked.get(key.name) != resource.version:
            rejection = subscription.rejected.get(key.name)
            return rejection is not None and rejection.version == resource.version
        if key.type_url != types.CLUSTER:
            return True
        return all(map(self._has_endpoints, endpoints_named(resource) or (key.name,)))

    @property
    def is_envoy(self) -> bool:
        """Return whether it asks for endpoints by name, as far as it asks: others want all."""
        endpoints = self.subscriptions.get(types.ENDPOINTS)
        return endpoints is None or not endpoints.wildcard

    def is_whole(self, now: float) -> bool:
        """Return whether it has everything of all types but WHOLE, or may wait no longer."""
        others = (one for url, one in self.subscriptions.items() if url != types.WHOLE)
        return now >= self.whole_by or not any(map(Subscription.owes, others))

    def awaits_verdicts(self) -> bool:
        """Return whether what leads away from that which Envoy loses is still under way."""
        found = (self.subscriptions.get(url) for url in types.NODE_TYPES)
        return any(one is not None and one.sending() for one in found)

    def renew_scopes(self, listeners: Subscription) -> None:
        """Let the scopes follow a new listener, if an Envoy may have forgotten them."""
        scopes = self.subscriptions.get(types.SCOPE)
        if scopes is None or not self.is_envoy or any(map(pod_of, listeners.acked)):
            return
        for name in scopes.acked:
            scopes.anew = True
            scopes.forced.add(name)
            scopes.touch(name)

    def should_leave(self, subscription: Subscription, name: str) -> bool:
        """Return whether the client has, or may have, what does not exist any more."""
        if self.snapshot.get(subscription.type_url, name) is not None:
            return False
        return subscription.may_have(name) and subscription.unanswered.get(name) != ""

    def _has_endpoints(self, name: str) -> bool:
        subscription = self.subscriptions.get(types.ENDPOINTS)
        if subscription is None or not subscription.wants(name):
            return True
        if self.snapshot.get(types.ENDPOINTS, name) is None:
            return True
        return name in subscription.acked or name in subscription.rejected

    def wait(
        self, subscription: Subscription, key: ResourceName, need: ResourceName, until: float
    ) -> None:
        """Note that *key* waits for *need* until a time."""
        subscription.waiting[key.name] = until
        self.deadlines.add(until, subscription, key.name)
        self._waiters.setdefault(need, {})[key] = None
        resource = self.snapshot.get(need.type_url, need.name)
        for other in resource.needs if resource is not None else ():
            self._waiters.setdefault(other, {})[key] = None

    def release(self, key: ResourceName) -> None:
        """Look again at what waits for *key*."""
        self.touch_all(self._waiters.pop(key, ()))
        if key.type_url == types.ENDPOINTS:
            self.touch_all(self._waiters.pop(ResourceName(types.CLUSTER, key.name), ()))

    def touch(self, key: ResourceName) -> None:
        """Look at *key* again, and whether the client should lose it."""
        subscription = self.subscriptions.get(key.type_url)
        if subscription is not None:
            subscription.touch(key.name)
            self.mark_leaving(subscription, key.name)

    def touch_all(self, keys: Iterable[ResourceName]) -> None:
        """Look at all *keys* again."""
        for key in tuple(keys):
            self.touch(key)

    def mark_leaving(self, subscription: Subscription, name: str) -> None:
        """Note whether the client should lose *name*."""
        subscription.leave(name, leaving=self.should_leave(subscription, name))

    def clear(self, subscription: Subscription, name: str) -> None:
        """End the quarantine of *name*, if there is one."""
        if subscription.rejected.pop(name, None) is not None:
            self.verdicts.append(Cleared(ResourceName(subscription.type_url, name)))

    def forget(self, subscription: Subscription, key: ResourceName) -> None:
        """Drop what is known of a name that the client no longer asks for."""
        self.clear(subscription, key.name)
        subscription.forget(key.name)
        self.touch_all(self.held.gone(key))
        self.release(key)
