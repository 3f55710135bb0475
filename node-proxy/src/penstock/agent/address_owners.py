"""Who has an address: the node, a pod here, or else the workload or peer that came last."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from penstock.agent.node_resources import Peer, Workload
from penstock.ir.policy import Reserved

_HOST = ""
"""The node among the owners of an address; a uid is never empty."""
_OWN = "@"
"""Before a uid among the owners: a local pod, by what it was registered with. It is known here
first, so such an owner goes before others."""


class AddressOwners:
    """All who claim addresses, and their identities."""

    def __init__(self, local: Mapping[str, object]) -> None:
        """Know of no claim; *local* are the pods of this node, the latest last."""
        self._local = local
        self._owners: dict[str, dict[str, int]] = {}
        """By address, the latest last."""
        self._own_claims: dict[str, Peer] = {}
        self._host: AbstractSet[str] = frozenset()

    def __contains__(self, address: str) -> bool:
        """Return whether anybody claims *address*."""
        return address in self._owners

    @property
    def addresses(self) -> AbstractSet[str]:
        """Return the addresses that anybody claims."""
        return self._owners.keys()

    def identity(self, address: str) -> int | None:
        """Return the identity of who has *address*; None if nobody has."""
        owners = self._owners.get(address)
        return owners[self._first(owners)] if owners else None

    def uid(self, address: str) -> str:
        """Return the uid of who has *address*, "" if it is the node or nobody."""
        owners = self._owners.get(address)
        return self._first(owners).removeprefix(_OWN) if owners else ""

    def claim(
        self, owner: str, old: Workload | Peer | None, new: Workload | Peer | None
    ) -> set[str]:
        """Take which addresses an owner has; return those that this concerns."""
        touched: set[str] = set()
        for address in old.addresses if old else ():
            touched.add(address)
            owners = self._owners.get(address, {})
            owners.pop(owner, None)
            if not owners:
                self._owners.pop(address, None)
        if new is not None:
            for address in new.addresses:
                touched.add(address)
                self._owners.setdefault(address, {})[owner] = new.identity
        return touched

    def claim_own(self, uid: str, claim: Peer | None) -> set[str]:
        """Take which addresses a local pod was registered with; return those that this concerns."""
        old = self._own_claims.pop(uid, None)
        if claim is not None:
            self._own_claims[uid] = claim
        return self.claim(_OWN + uid, old, claim) if claim != old else set()

    def set_host(self, wanted: AbstractSet[str]) -> set[str]:
        """Take which addresses are the node's own; return those that became so or ceased to be."""
        touched = set(wanted ^ self._host)
        for address in touched:
            owners = self._owners.setdefault(address, {})
            if address in wanted:
                owners[_HOST] = int(Reserved.HOST)
            else:
                owners.pop(_HOST, None)
                if not owners:
                    del self._owners[address]
        self._host = wanted
        return touched

    def _first(self, owners: Mapping[str, int]) -> str:
        if _HOST in owners:
            return _HOST
        ours = [owner for owner in owners if owner.startswith(_OWN)]
        if len(ours) > 1:
            return next(_OWN + uid for uid in reversed(list(self._local)) if _OWN + uid in owners)
        return ours[0] if ours else list(owners)[-1]
