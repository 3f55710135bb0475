"""Queries about what Gateways pass on as it is: TLS, connections and datagrams.

Every filter chain has a cluster of its own, whether it has a route or not. The listener says
nothing of routes, and so a route, its backends and their weights change endpoints only: no
connection ends because of them.

The connections come to the pods from Envoy's own address, as those of a LoadBalancer do: the
servers' policy sees INGRESS. At the pods the kernel judges them, or hands them to the pod's own
listener.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import msgspec

from penstock.compiler.attached import Claim, PlaceAt, claims_at, parent_at
from penstock.compiler.certificates import tls_chain
from penstock.compiler.database import Database
from penstock.compiler.gateway_ports import GatewayHost, GatewayPort, owner, placed_on
from penstock.compiler.routing import RouteFor, head, translated
from penstock.compiler.services import KernelPort, backends, one_family
from penstock.envoy import cluster as clusters
from penstock.envoy.endpoint import Place, load_assignment
from penstock.envoy.stream import StreamChain
from penstock.gatewayapi.attach import HTTP_PROTOCOLS
from penstock.gatewayapi.hostname import ANY, specificity
from penstock.gatewayapi.listener_tls import TLS, terminates_tls
from penstock.gatewayapi.resources import Listener
from penstock.incremental.query import query
from penstock.ir.route import Backend, InvalidBackend
from penstock.meta.names import ObjectRef, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

REFUSING: Place = ("127.0.0.1", 1)
"""Where nobody listens: who is led there is refused."""
WHOLE = 1 << 24
"""Sum of the weights of all endpoints, as far as they are whole numbers."""


@query
def stream_hosts(db: Database, at: GatewayPort) -> tuple[GatewayHost, ...]:
    """Return for which server names there are filter chains on a port, sorted; ANY where none is.

    A listener has one for its own hostname, routes or not: what is its is nobody else's.
    """
    here = [one for one in placed_on(db, at) if one.own.protocol not in HTTP_PROTOCOLS]
    places = {one.place for one in here}
    found = {one.own.hostname or ANY for one in here}
    for placed in here:
        for hostname in {one.hostname for one in db.hostnames.bucket("parent", parent_at(placed))}:
            listener = owner(db, GatewayHost(at, hostname))
            asked = claims_at(db, PlaceAt(at.gateway, placed.place, hostname))
            if asked and listener is not None and listener.name in places:
                found.add(hostname)
    return tuple(GatewayHost(at, hostname) for hostname in sorted(found))


def stream_chains(db: Database, at: GatewayPort) -> tuple[StreamChain, ...]:
    """Return the filter chains of a port that pass on what comes."""
    found: list[StreamChain] = []
    for key in stream_hosts(db, at):
        listener = owner(db, key)
        if listener is not None:
            found.append(_chain(db, key, listener))
    return tuple(found)


def _chain(db: Database, key: GatewayHost, listener: Listener) -> StreamChain:
    made = tls_chain(db, key.at.gateway, listener) if terminates_tls(listener) else None
    name = f"{listener.name}|{key.hostname}"
    hostname = "" if key.hostname == ANY else key.hostname
    ended = (
        None
        if made is None
        else msgspec.structs.replace(made, listener=name, hostname=hostname, alpn=())
    )
    return StreamChain(
        name=name,
        cluster=stream_name(key),
        server_name=hostname,
        over_tls=listener.protocol == TLS,
        ended=ended,
    )


def stream_name(key: GatewayHost) -> str:
    """Return the name of the cluster of a filter chain."""
    return f"stream|{key.at}|{key.hostname}"


@query
def stream_route(db: Database, key: GatewayHost) -> ObjectRef | None:
    """Return the route that has a filter chain: of the narrowest hostname, then the oldest."""
    listener = owner(db, key)
    if listener is None:
        return None
    here = list(claims_at(db, PlaceAt(key.at.gateway, listener.name, key.hostname)))
    here.sort(key=functools.partial(_seniority, db))
    narrowest = max(here, key=lambda one: specificity(one.written), default=None)
    return None if narrowest is None else narrowest.route


def _seniority(db: Database, claim: Claim) -> tuple[str, str]:
    route = head(db, claim.route)
    return ("", "") if route is None else (route.age.created, route.age.name)


@query
def stream_cluster(db: Database, key: GatewayHost) -> Resource:
    """Return the Cluster of a filter chain."""
    made = clusters.balanced(stream_name(key), node_netns=db.settings.dial_netns)
    return encode_resource(types.CLUSTER, made.name, made, [_gateway(key)])


@query
def stream_assignment(db: Database, key: GatewayHost) -> Resource:
    """Return the ClusterLoadAssignment of a filter chain: where its route leads, by weight."""
    name, route = stream_name(key), stream_route(db, key)
    found = translated(db, RouteFor(route, mesh=False)) if route is not None else None
    weights = _weights(db, key.at, found.backends if found is not None else ())
    made = load_assignment(name, weights, weights.values())
    origins = [_gateway(key), *([Origin(route)] if route is not None else [])]
    return encode_resource(types.ENDPOINTS, name, made, origins)


def _weights(db: Database, at: GatewayPort, given: Sequence[Backend]) -> dict[Place, int]:
    """Return the endpoints with their weights; the share of who is not there is refused."""
    total = sum(one.weight for one in given)
    found: Counter[Place] = Counter()
    for one in given:
        places = _places(db, at, one) if one.weight else ()
        for place in places:
            found[place] += max(1, round(WHOLE * one.weight / total / len(places)))
    return {place: found[place] for place in sorted(found)}


def _places(db: Database, at: GatewayPort, backend: Backend) -> Sequence[Place]:
    if isinstance(backend, InvalidBackend):
        return (REFUSING,)
    carrier = "UDP" if at.datagrams else "TCP"
    port = KernelPort(backend.target.service, backend.target.port, carrier)
    return [(one.address, one.port) for one in one_family(backends(db, port))] or (REFUSING,)


def _gateway(key: GatewayHost) -> Origin:
    return Origin.of("Gateway", key.at.gateway)
