"""The way from the bytes of an API server to the bytes for a node, step by step in one thread."""

from __future__ import annotations

import contextlib
import gc
import http.client
import time
from collections.abc import Iterator

import msgspec

from bench.encode import NODE, Client, total_bytes
from penstock.compiler.compile import Compiler
from penstock.compiler.kinds import KINDS
from penstock.core.events import Event
from penstock.core.objects import Object
from penstock.sources.kubernetes.messages import read_page
from penstock.sources.kubernetes.requests import ListRequest, resource_of
from penstock.sources.kubernetes.table import Table
from penstock.xds.delta import DeltaStream
from penstock.xds.snapshot import Snapshot
from support.kube import KubeApi


class Phases(msgspec.Struct, frozen=True):
    """CPU seconds by phase, in order."""

    seconds: dict[str, float]


def measure(api: KubeApi) -> Phases:
    """Return what each phase takes for what the API server holds."""
    gc.collect()
    gc.disable()
    try:
        return Phases(dict(_phases(api)))
    finally:
        gc.enable()


def _phases(api: KubeApi) -> Iterator[tuple[str, float]]:
    start = time.monotonic()
    raw = {kind: _list(api, kind) for kind in KINDS}
    size = sum(map(len, raw.values()))
    yield f"LIST, {size / 1e6:.0f} MB, in wall-clock time", time.monotonic() - start
    start = time.thread_time()
    for body in raw.values():
        msgspec.json.decode(body)
    yield "(reading JSON without any type, for comparison)", time.thread_time() - start
    start = time.thread_time()
    events = list(_events(raw))
    yield "bytes to objects", time.thread_time() - start
    start = time.thread_time()
    compiler = Compiler()
    compiler.apply(events)
    assert not compiler.failures, compiler.failures
    runs = compiler.db.engine.runs
    yield f"objects to resources, {runs} queries run", time.thread_time() - start
    start = time.thread_time()
    resources = compiler.resources(NODE)
    snapshot = Snapshot(resources)
    yield f"snapshot, {len(resources)} resources", time.thread_time() - start
    start = time.thread_time()
    Client(DeltaStream(snapshot)).converge()
    size = total_bytes(resources)
    yield f"resources to frames, responses and their answers, {size / 1e6:.0f} MB", _since(start)


def _since(start: float) -> float:
    return time.thread_time() - start


def _list(api: KubeApi, kind: type[Object]) -> bytes:
    target = ListRequest(kind.api_versions[0], resource_of(kind.kind), 0).target
    connection = http.client.HTTPSConnection("127.0.0.1", api.port, context=api.client_context())
    with contextlib.closing(connection):
        connection.request("GET", target)
        return connection.getresponse().read()


def _events(raw: dict[type[Object], bytes]) -> Iterator[Event]:
    for kind, body in raw.items():
        table = Table(kind)
        items = read_page(body).items or []
        yield from table.replace(dict(table.look(one, kind.api_versions[0]) for one in items))
