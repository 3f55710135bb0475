"""Listeners of an object in force that could not be served and can be now: do nodes have them?

What is told of an object that is in force stays for a while whatever is on its way, as
`penstock.controlplane.verdicts` says. That is no word about a listener that was left out: a Secret
that was missing is there now, and nodes have not heard of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable

from penstock.controlplane.acknowledgements import Verdict
from penstock.meta.names import ObjectRef


class NewlyServed:
    """The listeners that were not served, by their objects; nearly all objects have none."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Know of none; *monotonic* tells the time in seconds."""
        self._monotonic = monotonic
        self._since: dict[ObjectRef, dict[str, float]] = {}
        """By name, since when each can be served; infinite for one that cannot be."""

    def __contains__(self, ref: ObjectRef) -> bool:
        """Return whether some listener of an object was not served at the last look."""
        return ref in self._since

    def look(
        self, ref: ObjectRef, names: Iterable[str], closed: Collection[str], said: Verdict | None
    ) -> frozenset[str]:
        """Return the listeners that can be served and that some node does not have yet.

        Args:
            ref: a Gateway or a ListenerSet that is told to be in force.
            names: of its listeners.
            closed: those that cannot be served.
            said: what nodes say of it.
        """
        known, now = self._since.get(ref, {}), self._monotonic()
        since = {name: min(known[name], now) for name in names if name in known}
        new = {name: at for name, at in since.items() if name not in closed and not _has(said, at)}
        self._keep(ref, new | dict.fromkeys(closed, math.inf))
        return frozenset(new)

    def is_over(self, ref: ObjectRef, said: Verdict | None) -> bool:
        """Return whether nodes have a listener that they did not have at the last look."""
        found = self._since.get(ref, {}).values()
        return any(at < math.inf and _has(said, at) for at in found)

    def drop(self, ref: ObjectRef) -> None:
        """Forget an object."""
        self._since.pop(ref, None)

    def clear(self) -> None:
        """Forget everything."""
        self._since.clear()

    def _keep(self, ref: ObjectRef, since: dict[str, float]) -> None:
        if since:
            self._since[ref] = since
        else:
            self.drop(ref)


def _has(said: Verdict | None, since: float) -> bool:
    """Return whether all nodes have what there was at a moment."""
    if said is None or said.acked.others.status is True:
        return True
    return said.follows is not None and since < said.since
