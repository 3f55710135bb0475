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
from collections.abc import Iterator, Sequence

import msgspec

from penstock.compiler.attached import Claim, PlaceAt, claims_at, parent_at
from penstock.compiler.backend_tls import any_policies, tls_towards
from penstock.compiler.certificates import client_certificate, tls_chain
from penstock.compiler.database import Database
from penstock.compiler.endpoints import KernelPort, backends, one_family
from penstock.compiler.gateway_ports import GatewayHost, GatewayPort, owner, placed_on
from penstock.compiler.indexes import ALL
from penstock.compiler.routing import RouteFor, head, translated
from penstock.compiler.selected import selected_tls
from penstock.compiler.shares import shared_out
from penstock.envoy import stream as envoy
from penstock.envoy.endpoint import Place, load_assignment
from penstock.envoy.stream import StreamChain
from penstock.gatewayapi.attach import HTTP_PROTOCOLS
from penstock.gatewayapi.hostname import ANY, specificity
from penstock.gatewayapi.listener_tls import TLS, terminates_tls
from penstock.gatewayapi.resources import Listener
from penstock.incremental.query import query
from penstock.ingress.placed import origin_of
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.ir.external import xbackend_of
from penstock.ir.route import Backend, ServiceBackend, ServicePort
from penstock.meta.names import ObjectRef, Origin
from penstock.meta.networks import REFUSING
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource


@query
def stream_hosts(db: Database, at: GatewayPort) -> tuple[GatewayHost, ...]:
    """Return for which server names there are filter chains on a port, sorted; ANY where none is.

    A listener has one for its own hostname, routes or not: what is its is nobody else's.
    """
    here = [one for one in placed_on(db, at) if one.own.protocol not in HTTP_PROTOCOLS]
    places = {one.place for one in here}
    found = {one.own.hostname or ANY for one in here}
    parents = dict.fromkeys(map(parent_at, here))
    written = {one.hostname for each in parents for one in db.hostnames.bucket("parent", each)}
    for hostname in written:
        listener = owner(db, GatewayHost(at, hostname))
        if listener is None or listener.name not in places:
            continue
        if claims_at(db, PlaceAt(at.gateway, listener.name, hostname)):
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
    made, met = _cluster(db, key), secure_ports(db, key)
    origins = [_gateway(key), *(one.origin for one in met.values())]
    endpoints = envoy.assignment_name(made)
    needs = [ResourceName(types.ENDPOINTS, endpoints)] if endpoints != made.name else []
    return encode_resource(types.CLUSTER, made.name, made, dict.fromkeys(origins), needs)


@query
def assignment_name(db: Database, key: GatewayHost) -> str:
    """Return the name of the ClusterLoadAssignment of a filter chain."""
    return envoy.assignment_name(_cluster(db, key))


def _cluster(db: Database, key: GatewayHost) -> cluster_pb2.Cluster:
    sockets = {str(target): tls for target, tls in secure_ports(db, key).items()}
    return envoy.stream_cluster(stream_name(key), sockets, node_netns=db.settings.dial_netns)


@query
def secure_ports(db: Database, key: GatewayHost) -> dict[ServicePort, BackendTls]:
    """Return the Service ports behind a filter chain that TLS is spoken to, and how."""
    met = {one: tls_of(db, key, one) for one in dict.fromkeys(_targets(db, key))}
    return {one: tls for one, tls in met.items() if isinstance(tls, BackendTls)}


def shows_certificate(db: Database, key: GatewayHost) -> bool:
    """Tell whether a filter chain shows endpoints a certificate."""
    return any(one.certificate is not None for one in secure_ports(db, key).values())


def _targets(db: Database, key: GatewayHost) -> Iterator[ServicePort]:
    """Yield the ports behind a filter chain; none while TLS is spoken to nobody."""
    secure = any_policies(db, None) or db.externals.holds("tls", ALL)
    for one in _backends(db, key) if secure else ():
        if isinstance(one, ServiceBackend):
            yield one.target


def tls_of(db: Database, key: GatewayHost, target: ServicePort) -> BackendTls | RefusedTls | None:
    """Return how a filter chain meets a Service port; TLS that is handed on is in there already."""
    listener = owner(db, key)
    if listener is None or key.at.datagrams:
        return None
    if listener.protocol == TLS and not terminates_tls(listener):
        return None
    selecting = xbackend_of(target.service)
    if selecting is not None:
        return selected_tls(db, selecting)
    found = tls_towards(db, target)
    shown = client_certificate(db, key.at.gateway) if isinstance(found, BackendTls) else None
    if not isinstance(found, BackendTls) or shown is None:
        return found
    if shown.secret is None:
        return RefusedTls(origin=_gateway(key))
    return msgspec.structs.replace(found, certificate=shown.secret)


def _backends(db: Database, key: GatewayHost) -> Sequence[Backend]:
    route = stream_route(db, key)
    found = translated(db, RouteFor(route, mesh=False)) if route is not None else None
    return found.backends if found is not None else ()


@query
def stream_assignment(db: Database, key: GatewayHost) -> Resource:
    """Return the ClusterLoadAssignment of a filter chain: where its route leads, by weight."""
    name, route = assignment_name(db, key), stream_route(db, key)
    weights, sockets = _weights(db, key, _backends(db, key))
    made = load_assignment(name, weights, weights.values(), map(sockets.__getitem__, weights))
    origins = [_gateway(key)]
    if route is not None:
        origins.append(origin_of(route, db.routes.get(route)))
    return encode_resource(types.ENDPOINTS, name, made, origins)


def _weights(
    db: Database, key: GatewayHost, given: Sequence[Backend]
) -> tuple[dict[Place, int], dict[Place, str]]:
    """Return the endpoints with their weights, and by which socket each is met.

    The share of who is not there is refused. An endpoint of two Services is met with TLS if one of
    them asks for it.
    """
    sockets: dict[Place, str] = {}
    for one in given:
        socket = _socket(db, key, one)
        for place in _places(db, key, one) if one.weight else ():
            sockets[place] = max(sockets.get(place, ""), socket)
    return shared_out(given, functools.partial(_places, db, key)), sockets


def _socket(db: Database, key: GatewayHost, backend: Backend) -> str:
    if not isinstance(backend, ServiceBackend) or backend.target not in secure_ports(db, key):
        return ""
    return str(backend.target)


def _places(db: Database, key: GatewayHost, backend: Backend) -> Sequence[Place]:
    if not isinstance(backend, ServiceBackend):
        return (REFUSING,)
    if isinstance(tls_of(db, key, backend.target), RefusedTls):
        return (REFUSING,)
    carrier = "UDP" if key.at.datagrams else "TCP"
    port = KernelPort(backend.target.service, backend.target.port, carrier)
    return [(one.address, one.port) for one in one_family(backends(db, port))] or (REFUSING,)


def _gateway(key: GatewayHost) -> Origin:
    return Origin.of("Gateway", key.at.gateway)
