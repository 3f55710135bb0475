"""Queries about Gateways: their hosts on each port, and the listeners and scopes for them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
from google.protobuf.message import Message

from penstock.compiler.certificates import tls_chains
from penstock.compiler.claims import assigned
from penstock.compiler.database import ALL, Database
from penstock.compiler.merged_listeners import attachments, served_listeners
from penstock.compiler.nodes import places
from penstock.compiler.routing import RankedFor, ranked_for, weights_in_runtime
from penstock.compiler.scopes import clusters_of
from penstock.compiler.settings import Addressing, Reach
from penstock.envoy import listener as listeners
from penstock.envoy.cluster import Role, cluster_name
from penstock.envoy.listener import EXACT, HOST_FILTER, GatewayListener
from penstock.envoy.route import virtual_host as build_host
from penstock.envoy.scope import gateway_key, scope
from penstock.envoy.tls import misdirected
from penstock.envoy.wire import pack
from penstock.gatewayapi.hostname import ANY, covering, covers, specificity
from penstock.gatewayapi.listener_tls import terminates_tls
from penstock.gatewayapi.merge import virtual_host
from penstock.gatewayapi.resources import Listener
from penstock.incremental.query import query
from penstock.ir.route import VirtualHost
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

LOOPBACK = "127.0.0.1"
FIRST_UNPRIVILEGED_PORT = 1024


class GatewayPort(msgspec.Struct, frozen=True, order=True):
    """A port of a Gateway: one Envoy listener, shared by the Gateway's listeners on it."""

    gateway: NamespacedName
    port: int

    def __str__(self) -> str:
        """Return the first part of its scope keys."""
        return f"{self.gateway}/{self.port}"


class GatewayHost(msgspec.Struct, frozen=True, order=True):
    """A hostname on a port of a Gateway: exact, "*.a.test" or "*"."""

    at: GatewayPort
    hostname: str


class ListenerOn(msgspec.Struct, frozen=True, order=True):
    """The Envoy listener of a port of a Gateway on one node of a cluster."""

    at: GatewayPort
    node: str


class Claim(msgspec.Struct, frozen=True, order=True):
    """A route that asks for a hostname at a listener."""

    hostname: str
    listener: str
    route: ObjectRef
    written: str


@query
def ports(db: Database, name: NamespacedName) -> tuple[GatewayPort, ...]:
    """Return the ports on which a Gateway of ours serves HTTP."""
    numbers = {one.own.port for one in served_listeners(db, name)}
    return tuple(GatewayPort(name, number) for number in sorted(numbers))


@query
def listeners_on(db: Database, at: GatewayPort) -> tuple[Listener, ...]:
    """Return the accepted listeners of a port, whether they have a certificate or not."""
    served = served_listeners(db, at.gateway)
    return tuple(one.listener for one in served if one.own.port == at.port)


@query
def claims(db: Database, at: GatewayPort) -> tuple[Claim, ...]:
    """Return who asks for which hostname on a port, sorted."""
    here = {one.name for one in listeners_on(db, at)}
    return tuple(
        sorted(
            {
                Claim(one.hostname, one.listener, attachment.route, one.written)
                for attachment in attachments(db, at.gateway)
                for one in attachment.found.hostnames
                if one.listener in here
            }
        )
    )


@query
def hostnames(db: Database, at: GatewayPort) -> tuple[str, ...]:
    """Return the hostnames that are asked for on a port, sorted.

    Where there are several listeners, theirs are among them: what is one listener's is never
    another's, routes or not.
    """
    asked = {claim.hostname for claim in claims(db, at)}
    listeners_here = listeners_on(db, at)
    if len(listeners_here) > 1:
        asked.update(one.hostname for one in listeners_here if one.hostname)
        asked.update(ANY for one in listeners_here if not one.hostname and terminates_tls(one))
    return tuple(sorted(asked))


@query
def falls_back(db: Database, at: GatewayPort) -> bool:
    """Tell whether requests without an exact host can have a route."""
    return any(name.startswith("*") for name in hostnames(db, at))


@query
def claims_by_hostname(db: Database, at: GatewayPort) -> dict[str, tuple[Claim, ...]]:
    """Return who asks on a port, by hostname."""
    found: dict[str, list[Claim]] = {}
    for claim in claims(db, at):
        found.setdefault(claim.hostname, []).append(claim)
    return {hostname: tuple(same) for hostname, same in found.items()}


def owner(db: Database, key: GatewayHost) -> Listener | None:
    """Return the listener that a hostname belongs to: the one with the narrowest of its own."""
    here = listeners_on(db, key.at)
    possible = [one for one in here if covers(one.hostname or ANY, key.hostname)]
    return max(possible, key=lambda one: specificity(one.hostname or ANY), default=None)


@query
def scheme(db: Database, at: GatewayPort) -> str:
    """Return by which scheme clients come to a port."""
    return "https" if any(map(terminates_tls, listeners_on(db, at))) else "http"


@query
def may_misdirect(db: Database, at: GatewayPort) -> bool:
    """Tell whether connections of one listener may carry requests for another."""
    return scheme(db, at) == "https" and len(listeners_on(db, at)) > 1


@query
def claims_of(db: Database, key: GatewayHost) -> tuple[Claim, ...]:
    """Return the claims that count for requests to a hostname.

    One listener owns the hostname; of the routes there, those for wider hostnames count too, after
    those for narrower ones, if they are of the same kind.
    """
    listener = owner(db, key)
    if listener is None:
        return ()
    asked = claims_by_hostname(db, key.at)
    found = [claim for wide in covering(key.hostname) for claim in asked.get(wide, ())]
    here = [claim for claim in found if claim.listener == listener.name]
    kind = here[0].route.kind if here else ""
    return tuple(sorted(claim for claim in here if claim.route.kind == kind))


@query
def gateway_host(db: Database, key: GatewayHost) -> VirtualHost:
    """Return the routes for a hostname on a port of a Gateway."""
    return virtual_host(
        key.hostname,
        [
            ranked_for(db, RankedFor(claim.route, claim.written, mesh=False))
            for claim in claims_of(db, key)
        ],
    )


def _built(
    db: Database, key: GatewayHost, host: VirtualHost, *, catch_all: bool
) -> route_pb2.VirtualHost:
    built = build_host(
        host,
        lambda target: cluster_name(Role.GATEWAY, target),
        runtime_weights=weights_in_runtime(db, None),
        catch_all=catch_all,
        port=key.at.port,
        scheme=scheme(db, key.at),
    )
    listener = owner(db, key) if may_misdirect(db, key.at) else None
    if listener is not None:
        built.routes.insert(0, misdirected(listener.name))
    return built


@query
def exact_scope(db: Database, key: GatewayHost) -> Resource:
    """Return the scope of an exact hostname."""
    host = gateway_host(db, key)
    per_filter = {HOST_FILTER: _DISABLED}
    # The domain is "*": the scope is chosen by the host already, in whatever way it is written.
    everything = msgspec.structs.replace(host, hostname="*")
    name = gateway_key(str(key.at), key.hostname)
    built = _built(db, key, everything, catch_all=True)
    for route in built.routes:
        route.metadata.CopyFrom(_exact())
    made = scope(name, [built], per_filter)
    return _resource(key.at, name, made, [host])


@functools.cache
def _exact() -> base_pb2.Metadata:
    """Return what says of a route that it belongs to an exact host; nobody may change it."""
    result = base_pb2.Metadata()
    result.filter_metadata[HOST_FILTER].update({EXACT: 1})
    return result


_DISABLED = pack(route_pb2.FilterConfig(disabled=True))


@query
def wildcard_scope(db: Database, at: GatewayPort) -> Resource:
    """Return the scope of all hostnames that are not exact."""
    keys = [GatewayHost(at, name) for name in hostnames(db, at) if name.startswith("*")]
    hosts = [gateway_host(db, key) for key in keys]
    name = gateway_key(str(at), "*")
    made = scope(
        name,
        [_built(db, key, host, catch_all=False) for key, host in zip(keys, hosts, strict=True)],
    )
    return _resource(at, name, made, hosts)


def _resource(at: GatewayPort, name: str, made: Message, hosts: list[VirtualHost]) -> Resource:
    origins = sorted({route.origin for host in hosts for route in host.routes})
    needs = {need for host in hosts for need in clusters_of(host, Role.GATEWAY)}
    return encode_resource(
        types.SCOPE, name, made, [*origins, Origin.of("Gateway", at.gateway)], needs
    )


@query
def published_at(db: Database, port: int) -> GatewayPort | None:
    """Return which Gateway gets a port of the host's loopback: the first by name."""
    for name in db.gateways.bucket("all", ALL):
        for at in ports(db, name):
            if published_port(db, at.port) == port:
                return at
    return None


def published_port(db: Database, port: int) -> int:
    """Return the port of the host's loopback for a Gateway's port."""
    return port if port >= FIRST_UNPRIVILEGED_PORT else port + db.settings.published_offset


@query
def gateway_listener(db: Database, at: GatewayPort) -> Resource | None:
    """Return the Envoy listener of a port of a Gateway; None if it has no address at all."""
    settings = db.settings
    addresses: list[tuple[str, int, str]] = []
    own = assigned(db, gateway_ref(at.gateway)).addresses
    if settings.reach is Reach.NODE:
        addresses += ((one, at.port, settings.node_netns) for one in own)
    public = published_port(db, at.port)
    if published_at(db, public) == at:
        netns = settings.host_netns if settings.reach is Reach.NODE else ""
        addresses.append((LOOPBACK, public, netns))
    return _listener(db, at, addresses)


@query
def gateway_listener_on(db: Database, key: ListenerOn) -> Resource | None:
    """Return the Envoy listener of a port of a Gateway for one of the nodes that it is at.

    It may open before its addresses are on a link of the node: then nobody ever meets a closed
    port there.
    """
    netns, port = db.settings.host_netns, key.at.port
    if port_holder(db, port) not in (None, key.at):
        return None
    found = [one for one in places(db, gateway_ref(key.at.gateway)) if one.node == key.node]
    return _listener(db, key.at, [(one.address, port, netns) for one in found])


@query
def port_holder(db: Database, port: int) -> GatewayPort | None:
    """Return which Gateway has a port of all nodes, the first by name; None: each has its own."""
    if db.settings.reach is not Reach.CLUSTER or db.settings.addressing is Addressing.POOL:
        return None
    for name in db.gateways.bucket("all", ALL):
        at = GatewayPort(name, port)
        if at in ports(db, name):
            return at
    return None


def gateway_ref(name: NamespacedName) -> ObjectRef:
    """Return the Gateway with this name as an object."""
    return ObjectRef("Gateway", name.namespace, name.name)


def _listener(
    db: Database, at: GatewayPort, addresses: Sequence[tuple[str, int, str]]
) -> Resource | None:
    if not addresses:
        return None
    made = listeners.gateway(
        GatewayListener(
            name=str(at),
            addresses=tuple(addresses),
            chains=tls_chains(db, at.gateway, listeners_on(db, at)),
        )
    )
    if db.settings.reach is Reach.CLUSTER:
        made.freebind.value = True
    return encode_resource(types.LISTENER, made.name, made, [Origin.of("Gateway", at.gateway)])
