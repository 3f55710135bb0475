"""What a client gets in place of a Secret that it loses; for one that would go on with it.

Envoy takes no notice when a Secret is removed: it keeps the key for as long as any connection may
be on a filter chain that had it. Another Secret of that name it takes at once, and connections go
on. So that is sent instead, once Envoy has said its word on all listeners and clusters: none then
shows the Secret to new connections. Not if it has refused some, and runs older ones, or if some
still name the Secret. And only for a Secret that was taken from the snapshot while the stream was
there: one that is missing because the server has begun anew may well be in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from penstock.xds import framing, types
from penstock.xds.client import Client
from penstock.xds.resource import ResourceName
from penstock.xds.snapshot import Delta
from penstock.xds.subscription import Subscription

StandIn = Callable[[ResourceName], bytes]
"""Returns the frame of what a client gets in place of a Secret; b"" for nothing."""
_SDS_NAME = 1
"""Number of SdsSecretConfig.name; with tag and length no other name begins or ends alike."""
_USERS = (types.LISTENER, types.CLUSTER)


class Withdrawals:
    """Secrets that one client has and should not have any more."""

    def __init__(self, client: Client, stand_in: StandIn | None) -> None:
        """Know of none; without *stand_in* nothing goes in their place."""
        self._client = client
        self._stand_in = stand_in
        self._names: set[str] = set()

    def taken(self, delta: Delta) -> None:
        """Take a change that the snapshot has already undergone."""
        secrets = self._client.subscriptions.get(types.SECRET)
        if self._stand_in is None or secrets is None:
            return
        for key in delta.removals:
            if key.type_url == types.SECRET and key.name in secrets.acked:
                self._names.add(key.name)

    def is_early(self, key: ResourceName) -> bool:
        """Return whether something may go in the place of *key* soon, but not yet."""
        if key.type_url != types.SECRET or key.name not in self._names:
            return False
        return any(one.unsettled() for one in self._users())

    def instead_of(self, type_url: str, removals: Iterable[str]) -> dict[str, bytes]:
        """Return name → frame for those of *removals* in whose place something goes."""
        if type_url != types.SECRET or self._stand_in is None:
            return {}
        gone = self._names.intersection(removals)
        self._names -= gone
        if any(one.rejected or one.suspects or one.unanswered for one in self._users()):
            return {}
        free = sorted(name for name in gone if not self._is_named(name))
        frames = {name: self._stand_in(ResourceName(type_url, name)) for name in free}
        return {name: frame for name, frame in frames.items() if frame}

    def _is_named(self, secret: str) -> bool:
        """Return whether any resource that may use *secret* names it, as SdsSecretConfig does."""
        name, snapshot = framing.field(_SDS_NAME, secret.encode()), self._client.snapshot
        return any(name in one.body for url in _USERS for one in snapshot.of_type(url).values())

    def _users(self) -> list[Subscription]:
        found = (self._client.subscriptions.get(url) for url in _USERS)
        return [one for one in found if one is not None]
