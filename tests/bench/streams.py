"""What one more client costs a server: streams of many clients over what all of them have."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.report import Report, Table, number
from penstock.ads.store import SnapshotStore
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, make_resource
from penstock.xds.snapshot import Delta

STREAMS, RESOURCES, CHANGES = 500, 45_000, 10
_TYPES = (types.CLUSTER, types.ENDPOINTS, types.SCOPE)
_MS, _MIB = 1e3, 1 << 20

ABOUT = f"""\
{STREAMS} streams in one process, without sockets, over a store of {RESOURCES:,} resources that
every node has: clusters, their endpoints, and scopes that need the clusters. The clients accept
everything. CPU is of both sides.

* **Coming back**: clients that say in their first requests that they have everything.
* **One change**: of one endpoint assignment, until the last client has accepted it.
"""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """All measurements."""

    memory: float
    """MiB for each stream."""
    joined: float
    """CPU milliseconds for each stream until it is in step."""
    changes: list[float]
    """CPU milliseconds of one change, for all streams."""


def run() -> Report:
    """Measure; about a minute."""
    found = measure(STREAMS, RESOURCES)
    changed = min(found.changes)
    table = Table(
        title=f"{STREAMS} streams",
        header=["memory of a stream, MiB", "coming back, ms", "one change, all streams, ms"],
        rows=[[number(found.memory), number(found.joined), number(changed)]],
        notes=[f"One change is {number(changed * _MS / STREAMS)} µs for each stream."],
    )
    return Report(
        topic="streams",
        title="Cost of one more node",
        about=ABOUT,
        tables=[table],
        raw=msgspec.to_builtins(found),
    )


def measure(streams: int, resources: int) -> Found:
    """Return what *streams* cost over *resources*."""
    made = _resources(resources)
    store = SnapshotStore()
    store.apply_to_all(Delta(tuple(made)))
    requests = [_coming_back(type_url, made) for type_url in _TYPES]
    gc.collect()
    memory, start = _resident(), time.thread_time()
    joined = [_join(store, f"node-{index}", requests) for index in range(streams)]
    cpu = time.thread_time() - start
    gc.collect()
    memory = _resident() - memory
    changes = [_change(store, joined, made[1], turn) for turn in range(CHANGES)]
    return Found(memory=memory / streams, joined=cpu * _MS / streams, changes=changes)


def _resources(count: int) -> list[Resource]:
    """Return about *count* resources, of about the size that those of routes have."""
    found: list[Resource] = []
    for index in range(count // len(_TYPES)):
        name = f"gw|namespace-{index % 50}/service-{index}/80"
        cluster = make_resource(types.CLUSTER, name, b"c" * 200)
        found.append(cluster)
        found.append(make_resource(types.ENDPOINTS, name, b"e" * 100))
        found.append(make_resource(types.SCOPE, f"{name}|*", b"s" * 400, needs=[cluster.key]))
    return found


def _coming_back(type_url: str, resources: Sequence[Resource]) -> bytes:
    return discovery_pb2.DeltaDiscoveryRequest(
        type_url=type_url,
        resource_names_subscribe=["*"],
        initial_resource_versions={r.name: r.version for r in resources if r.type_url == type_url},
    ).SerializeToString()


def _join(store: SnapshotStore, node: str, requests: Sequence[bytes]) -> DeltaStream:
    stream = DeltaStream(store.peek(node))
    store.subscribe(node, stream.on_change)
    for request in requests:
        stream.on_request(discovery_pb2.DeltaDiscoveryRequest.FromString(request), 0.0)
    _converge(stream)
    return stream


def _converge(stream: DeltaStream) -> None:
    while responses := stream.responses(0.0):
        for one in responses:
            answer = discovery_pb2.DeltaDiscoveryRequest(
                type_url=one.type_url, response_nonce=one.nonce
            )
            stream.on_request(answer, 0.0)
    stream.verdicts()
    assert not stream.pending


def _change(
    store: SnapshotStore, streams: Sequence[DeltaStream], old: Resource, turn: int
) -> float:
    start = time.thread_time()
    store.apply_to_all(Delta((make_resource(old.type_url, old.name, b"%d" % turn),)))
    for stream in streams:
        _converge(stream)
    return (time.thread_time() - start) * _MS


def _resident() -> float:
    """Return the resident MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / _MIB
