"""A model of Envoy as a delta xDS client: applies, refuses, warms clusters, resumes.

Behaviour as seen with Envoy 1.40: CDS and LDS are applied by the resource, SRDS by the response;
endpoints are subscribed by the name of the cluster; after a cluster came or changed, no CDS
response is answered until its endpoints were sent after it; a refused new cluster warms for ever,
and is taken without a word when it is sent again, until it is removed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.xds import types
from penstock.xds.delta import DeltaStream, Response
from penstock.xds.resource import Resource, ResourceName, read_resource

Refuse = Callable[[Resource], str | None]


def accept_all(_resource: Resource) -> str | None:
    return None


class FakeEnvoy:
    """Keeps its resources over reconnects."""

    def __init__(
        self,
        refuse: Refuse = accept_all,
        wildcards: tuple[str, ...] = (types.CLUSTER, types.SCOPE, types.LISTENER),
        *,
        eds: bool = True,
    ) -> None:
        self.refuse = refuse
        self.wildcards = wildcards
        self.eds = eds
        self.has: dict[ResourceName, Resource] = {}
        self.received: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.requests: deque[discovery_pb2.DeltaDiscoveryRequest] = deque()
        self.warming: set[str] = set()
        self.withheld: list[discovery_pb2.DeltaDiscoveryRequest] = []
        self.endpoint_names: set[str] = set()
        self.zombies: dict[str, str] = {}

    def versions(self, type_url: str) -> dict[str, str]:
        return {k.name: r.version for k, r in self.has.items() if k.type_url == type_url}

    def connect(self) -> None:
        """Start a new stream: ask for everything, and say what is there already."""
        self.requests.clear()
        self.withheld.clear()
        self.warming &= {k.name for k in self.has if k.type_url == types.CLUSTER}
        for type_url in self.wildcards[:1]:
            self._ask(type_url, () if self.eds else ("*",))
        if self.eds and self.endpoint_names:
            self._ask(types.ENDPOINTS, sorted(self.endpoint_names))
        for type_url in self.wildcards[1:]:
            self._ask(type_url, () if self.eds else ("*",))

    def receive(self, response: Response) -> None:
        message = discovery_pb2.DeltaDiscoveryResponse.FromString(response.payload)
        assert (message.type_url, message.nonce) == (response.type_url, response.nonce)
        upserts = [read_resource(r) for r in message.resources]
        names = tuple(r.name for r in upserts)
        self.received.append(
            (types.short(message.type_url), names, tuple(message.removed_resources))
        )
        before = set(self.zombies)
        errors = {r.name: error for r in upserts if (error := self._error(r)) is not None}
        answer = discovery_pb2.DeltaDiscoveryRequest(
            type_url=message.type_url, response_nonce=message.nonce
        )
        if errors:
            answer.error_detail.code = 13
            answer.error_detail.message = "; ".join(errors.values())
        if not (errors and message.type_url in types.ALONE):
            self._apply([r for r in upserts if r.name not in errors], message)
        if message.type_url != types.CLUSTER:
            self.requests.append(answer)
        else:
            self.withheld.append(answer)
        if not (self.warming or before & self.zombies.keys()):
            self.requests.extend(self.withheld)
            self.withheld.clear()

    def _error(self, resource: Resource) -> str | None:
        error = self.refuse(resource)
        if error is None or resource.type_url != types.CLUSTER or not self.eds:
            return error
        if self.zombies.get(resource.name) == resource.version:
            return None
        if resource.key not in self.has:
            self.zombies[resource.name] = resource.version
        return error

    def _apply(
        self, upserts: list[Resource], message: discovery_pb2.DeltaDiscoveryResponse
    ) -> None:
        removed = list(message.removed_resources)
        upserts = [r for r in upserts if self.zombies.get(r.name) != r.version]
        changed = {r.name for r in upserts if self._is_new(r)}
        self.has.update({r.key: r for r in upserts})
        for name in removed:
            self.has.pop(ResourceName(message.type_url, name), None)
        if message.type_url == types.ENDPOINTS:
            self.warming -= {r.name for r in upserts} | set(removed)
        elif message.type_url == types.CLUSTER and self.eds:
            self.warming = (self.warming | changed) - set(removed)
            for name in [*removed, *(r.name for r in upserts)]:
                self.zombies.pop(name, None)
            fresh = [r.name for r in upserts if r.name not in self.endpoint_names]
            self._follow(fresh, removed)

    def _is_new(self, resource: Resource) -> bool:
        before = self.has.get(resource.key)
        return before is None or before.version != resource.version

    def _follow(self, fresh: list[str], gone: list[str]) -> None:
        gone = [name for name in gone if name in self.endpoint_names]
        if not fresh and not gone:
            return
        self.endpoint_names = (self.endpoint_names | set(fresh)) - set(gone)
        for name in gone:
            self.has.pop(ResourceName(types.ENDPOINTS, name), None)
        self.requests.append(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=types.ENDPOINTS,
                resource_names_subscribe=fresh,
                resource_names_unsubscribe=gone,
            )
        )

    def _ask(self, type_url: str, names: list[str] | tuple[str, ...]) -> None:
        self.requests.append(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=names,
                initial_resource_versions=self.versions(type_url),
            )
        )


def converge(envoy: FakeEnvoy, stream: DeltaStream, now: float = 0.0) -> float:
    """Carry requests and responses, and let time pass, until nothing is left to do."""
    for _ in range(10_000):
        while envoy.requests:
            stream.on_request(envoy.requests.popleft(), now)
        responses = stream.responses(now)
        for response in responses:
            envoy.receive(response)
        if not responses and not envoy.requests:
            due = stream.next_time()
            if due is None:
                return now
            now = due
    raise AssertionError("no end of messages")
