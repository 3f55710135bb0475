"""What a change costs the controller: from the event to the bytes of the response."""

from __future__ import annotations

import gc
import time

import msgspec

from bench.report import Samples, samples
from bench.scale import Change
from penstock.compiler.compile import Compiler
from penstock.compiler.published import NodeChange
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream, Response
from penstock.xds.resource import Resource
from penstock.xds.snapshot import Snapshot

NODE = "n1"
_MS = 1e3


class Encoding(msgspec.Struct, frozen=True):
    """CPU milliseconds of the one thread that works, and bytes of all responses."""

    compile: Samples
    frame: Samples
    both: Samples
    size: int


class Client:
    """A delta client that wants everything and accepts everything."""

    def __init__(self, stream: DeltaStream) -> None:
        self._stream = stream
        for type_url in types.ENVOY_TYPES:
            self._send(discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=["*"]
            ))  # fmt: skip

    def accept(self, responses: list[Response]) -> None:
        for response in responses:
            self._send(discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            ))  # fmt: skip

    def converge(self) -> None:
        while responses := self._stream.responses(0.0):
            self.accept(responses)

    def _send(self, request: discovery_pb2.DeltaDiscoveryRequest) -> None:
        self._stream.on_request(request, 0.0)


class Encoder:
    """A compiler and one stream, as in the controller but without a socket."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._snapshot = Snapshot(compiler.resources(NODE))
        self._stream = DeltaStream(self._snapshot)
        self._client = Client(self._stream)
        self._client.converge()

    def follow(self, changes: tuple[NodeChange, ...]) -> None:
        """Take changes that are not measured."""
        self._take(changes)
        self._client.converge()

    def measure(self, change: Change, turns: int) -> Encoding:
        """Return the cost of *change*, made *turns* times, forth and back."""
        compiled: list[float] = []
        framed: list[float] = []
        size = 0
        self._turn(change, 1)
        self._turn(change, 2)
        gc.collect()
        for turn in range(1, 2 * (turns // 2) + 1):
            first, second, size = self._turn(change, turn)
            compiled.append(first * _MS)
            framed.append(second * _MS)
        both = [a + b for a, b in zip(compiled, framed, strict=True)]
        return Encoding(samples(compiled), samples(framed), samples(both), size)

    def _turn(self, change: Change, turn: int) -> tuple[float, float, int]:
        event = change.event(turn)
        start = time.thread_time()
        changes = self._compiler.apply([event])
        middle = time.thread_time()
        self._take(changes)
        responses = self._stream.responses(0.0)
        end = time.thread_time()
        assert [r.type_url for r in responses] == [change.resource.type_url], changes
        self._client.accept(responses)
        self._client.converge()
        return middle - start, end - middle, sum(len(r.payload) for r in responses)

    def _take(self, changes: tuple[NodeChange, ...]) -> None:
        for one in changes:
            self._stream.on_change(self._snapshot.apply(one.delta))


def total_bytes(resources: tuple[Resource, ...]) -> int:
    return sum(len(resource.framed) for resource in resources)
