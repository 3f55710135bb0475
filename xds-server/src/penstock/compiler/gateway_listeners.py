"""Queries about the Envoy listeners of Gateways: where they open, and for whom."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.compiler.certificates import https_chain
from penstock.compiler.claims import assigned
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.gateway_ports import (
    GatewayPort,
    HostPort,
    every_port,
    gateway_ref,
    http_listeners_on,
    taken_by,
)
from penstock.compiler.listener_filters import most_asked
from penstock.compiler.merged_listeners import ListenerOf, placed_at
from penstock.compiler.nodes import places
from penstock.compiler.open_ports import open_port
from penstock.compiler.settings import Reach
from penstock.compiler.streams import stream_chains
from penstock.compiler.telemetry import traces
from penstock.envoy import listener as listeners
from penstock.envoy.cluster import Role, cluster_name
from penstock.envoy.listener import GatewayListener
from penstock.envoy.load_balancer import BalancedListener, balanced_datagrams
from penstock.gatewayapi.hostname import ANY, specificity
from penstock.incremental.query import query
from penstock.meta.names import Origin
from penstock.pb.envoy.config.listener.v3 import listener_pb2
from penstock.xds import types
from penstock.xds.framing import field
from penstock.xds.resource import Resource, ResourceName, make_resource

LOOPBACK = "127.0.0.1"
FIRST_UNPRIVILEGED_PORT = 1024


class ListenerOn(msgspec.Struct, frozen=True, order=True):
    """The Envoy listener of a port of a Gateway on one node of a cluster."""

    at: GatewayPort
    node: str


@query
def published_at(db: Database, wanted: HostPort) -> GatewayPort | None:
    """Return which Gateway gets a port of the host's loopback: the oldest, then by name."""
    return _published(db, None).get(wanted)


@query
def _published(db: Database, _: None) -> dict[HostPort, GatewayPort]:
    """Return who has each port of the host's loopback."""
    found: dict[HostPort, GatewayPort] = {}
    for at in every_port(db):
        found.setdefault(HostPort(published_port(db, at.port), at.datagrams), at)
    return found


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
    if published_at(db, HostPort(public, at.datagrams)) == at:
        netns = settings.host_netns if settings.reach is Reach.NODE else ""
        addresses.append((LOOPBACK, public, netns))
    return _listener(db, at, addresses)


@query
def gateway_listener_on(db: Database, key: ListenerOn) -> Resource | None:
    """Return the Envoy listener of a port of a Gateway for one of the nodes that it is at.

    It may open before its addresses are on a link of the node: then nobody ever meets a closed
    port there.
    """
    settings, port = db.settings, open_port(db, key.at)
    if not port or taken_by(db, key.at) is not None:
        return None
    netns = settings.dial_netns if is_inside(db, key.at.gateway) else settings.host_netns
    found = [one for one in places(db, gateway_ref(key.at.gateway)) if one.node == key.node]
    return _listener(db, key.at, [(one.address, port, netns) for one in found])


class ChainOf(msgspec.Struct, frozen=True):
    """The filter chain of an HTTPS listener, by its place among those of its Gateway."""

    at: GatewayPort
    listener: str


@query
def _chain(db: Database, key: ChainOf) -> bytes | None:
    """Return the serialised filter chain of a listener; None if it is not HTTPS."""
    placed = placed_at(db, ListenerOf(key.at.gateway, key.listener))
    chain = None if placed is None else https_chain(db, key.at.gateway, placed.listener)
    if chain is None:
        return None
    made = listeners.https_chain(str(key.at), chain, traces(db, key.at.gateway))
    return made.SerializeToString(deterministic=True)


def _chains(db: Database, at: GatewayPort) -> list[bytes]:
    """Return the chains of HTTPS of a port, the narrowest server name first."""
    here = sorted(http_listeners_on(db, at), key=lambda one: one.name)
    here.sort(key=lambda one: specificity(one.hostname or ANY), reverse=True)
    found = (_chain(db, ChainOf(at, one.name)) for one in here)
    return [one for one in found if one is not None]


def _listener(
    db: Database, at: GatewayPort, addresses: Sequence[tuple[str, int, str]]
) -> Resource | None:
    if not addresses:
        return None
    streams, chains = stream_chains(db, at), _chains(db, at)
    if at.datagrams and not streams:
        return None
    tracing = None if at.datagrams else traces(db, at.gateway)
    origins = [Origin.of("Gateway", at.gateway)]
    needs = [ResourceName(types.CLUSTER, one.cluster) for one in streams]
    if tracing is not None:
        origins.append(tracing.origin)
        told = cluster_name(Role.TRACES, tracing.collector.target)
        needs.append(ResourceName(types.CLUSTER, told))
    if at.datagrams:
        (only,) = streams
        name = listeners.gateway_name(str(at))
        made = balanced_datagrams(
            BalancedListener(name=name, cluster=only.cluster, addresses=tuple(addresses))
        )
    else:
        made = listeners.gateway(
            GatewayListener(
                name=str(at),
                addresses=tuple(addresses),
                secure=bool(chains),
                streams=streams,
                asked=most_asked(db, at),
                tracing=tracing,
            )
        )
    if db.settings.reach is Reach.CLUSTER:
        made.freebind.value = True
    body = made.SerializeToString(deterministic=True)
    body += b"".join(field(listener_pb2.Listener.FILTER_CHAINS_FIELD_NUMBER, one) for one in chains)
    return make_resource(types.LISTENER, made.name, body, origins, needs)
