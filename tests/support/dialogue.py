"""A delta stream and what is said on it, word by word."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream, Response
from penstock.xds.resource import Resource, ResourceName, make_resource
from penstock.xds.snapshot import Delta, Snapshot
from penstock.xds.withdrawals import StandIn

Message = tuple[str, list[str], list[str]]


def cluster(name: str, body: bytes = b"1") -> Resource:
    return make_resource(types.CLUSTER, name, body)


def endpoints(name: str, body: bytes = b"1") -> Resource:
    return make_resource(types.ENDPOINTS, name, body)


def scope(name: str, *clusters: str, body: bytes = b"1") -> Resource:
    needs = [ResourceName(types.CLUSTER, c) for c in clusters]
    return make_resource(types.SCOPE, name, body, needs=needs)


class Dialogue:
    """A stream and what is said on it, word by word."""

    def __init__(self, *resources: Resource, stand_in: StandIn | None = None) -> None:
        self.snapshot = Snapshot(resources)
        self.stream = DeltaStream(self.snapshot, stand_in=stand_in)
        self.now = 100.0
        self.last: list[Response] = []

    def ask(
        self,
        type_url: str,
        *names: str,
        has: dict[str, str] | None = None,
        leave: Iterable[str] = (),
    ) -> None:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=names,
            resource_names_unsubscribe=leave,
            initial_resource_versions=has or {},
        )
        self.stream.on_request(request, self.now)

    def change(self, *upserts: Resource, remove: Iterable[Resource] = ()) -> None:
        removals = tuple(r.key for r in remove)
        self.stream.on_change(self.snapshot.apply(Delta(upserts, removals)))

    def sends(self) -> list[Message]:
        self.last = self.stream.responses(self.now)
        messages = [discovery_pb2.DeltaDiscoveryResponse.FromString(r.payload) for r in self.last]
        return [
            (types.short(m.type_url), [r.name for r in m.resources], list(m.removed_resources))
            for m in messages
        ]

    def ack(self, *responses: Response, error: str = "") -> None:
        for response in responses or self.last:
            request = discovery_pb2.DeltaDiscoveryRequest(
                type_url=response.type_url, response_nonce=response.nonce
            )
            if error:
                request.error_detail.message = error
            self.stream.on_request(request, self.now)

    def settle(self) -> list[Message]:
        """ACK all, until there is nothing left to send; return what was sent."""
        said: list[Message] = []
        while messages := self.sends():
            said += messages
            self.ack()
        return said


def listener(name: str, body: bytes = b"1") -> Resource:
    return make_resource(types.LISTENER, name, body)
