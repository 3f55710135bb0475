"""Shares of connections and datagrams: how the weights of backends become those of endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from penstock.envoy.endpoint import Place
from penstock.ir.route import Backend

WHOLE = 1 << 24
"""Sum of the weights of all endpoints, as far as they are whole numbers."""


def shared_out(
    given: Sequence[Backend], places: Callable[[Backend], Sequence[Place]]
) -> dict[Place, int]:
    """Return the endpoints with their weights, sorted.

    Args:
        given: the backends of a route.
        places: where the share of a backend goes, never nowhere; not asked if that is 0.
    """
    total = sum(one.weight for one in given)
    found: Counter[Place] = Counter()
    for one in given:
        ends = places(one) if one.weight else ()
        for place in ends:
            found[place] += max(1, round(WHOLE * one.weight / total / len(ends)))
    return {place: found[place] for place in sorted(found)}
