"""What happens to many nodes, and what many changes take: figures and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.report import Samples, Table, number, samples

NODES, BURST = 500, 3_000


class Fan(msgspec.Struct, frozen=True, kw_only=True):
    """Something that concerns all nodes."""

    seconds: float
    cpu: float
    """CPU seconds of the controller."""
    memory: int
    """Most resident MiB of the controller so far."""
    size: int


class Turns(msgspec.Struct, frozen=True):
    """How often what happens to many nodes."""

    changes: int
    storms: int


class Crowd(msgspec.Struct, kw_only=True):
    """What happened to many nodes."""

    joined: Fan
    fans: list[Fan] = []
    storms: list[Fan] = []


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """Many changes at once."""

    written: float
    """Seconds until the API server has taken the last one."""
    done: float
    """Seconds until the controller rests."""
    cpu: float
    """CPU seconds of the controller."""


def column(items: list[Any], name: str) -> Samples:
    """Return one figure of all *items*."""
    return samples(getattr(one, name) for one in items)


def burst_tables(one: Burst | None) -> Iterator[Table]:
    """Yield what a burst of changes took."""
    if one is None:
        return
    yield Table(
        title=f"A burst of {BURST:,} changed EndpointSlices",
        header=["written, s", "the controller rests after, s", "its CPU, s"],
        rows=[[number(one.written), number(one.done), number(one.cpu)]],
        notes=[
            f"The API server took {number(BURST / one.written)} in a second.",
            f"The controller takes {number(BURST / one.cpu)} in a second of CPU, for one node.",
        ],
    )


def crowd_tables(crowd: Crowd | None, what: str) -> Iterator[Table]:
    """Yield what happened to many nodes that have *what*."""
    if crowd is None:
        return
    rows = {
        "one endpoint": crowd.fans,
        "all come": [crowd.joined],
        "all are cut and come": crowd.storms,
    }
    yield Table(
        title=f"{NODES} nodes with {what}",
        header=["what", "s", "CPU of the controller, s", "most memory, MiB", "MB sent"],
        rows=[
            [
                name,
                *(str(column(fans, each)) for each in ("seconds", "cpu", "memory")),
                number(fans[0].size / 1e6),
            ]
            for name, fans in rows.items()
            if fans
        ],
        notes=["Aim: one endpoint at all nodes after at most 0.3 s on two cores."],
    )
