"""Roots: which resources there are because of one object, and for which node.

Each root names outputs, and each output is a query of its own. This is the place to mention a new
kind of resource.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import msgspec

from penstock.compiler import (
    backend_tls,
    certificates,
    external,
    gateway_clusters,
    gateway_listeners,
    gateways,
    kernel_services,
    load_balancers,
    nodes,
    scopes,
    server_names,
    services,
    streams,
    telemetry,
    upstreams,
)
from penstock.compiler.addresses import frontends, workload_addresses
from penstock.compiler.claims import is_balanced
from penstock.compiler.database import Database
from penstock.compiler.endpoints import KernelPort, PortOn, is_kept
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.gateway_listeners import ListenerOn
from penstock.compiler.gateway_ports import GatewayHost, gateway_ref, ports
from penstock.compiler.indexes import ALL, HostnameAt
from penstock.compiler.kernel_services import KernelService, KernelServiceOn
from penstock.compiler.merged_listeners import gateway_of
from penstock.compiler.nodes import EVERY_NODE, Answered
from penstock.compiler.policies import http_asked_of
from penstock.compiler.scopes import EgressScope, PodPort
from penstock.compiler.secret_places import nodes_showing, secret_nodes
from penstock.compiler.selected import external_place
from penstock.compiler.services import RoleOf, RoleOn
from penstock.compiler.sessions import session_gates
from penstock.compiler.settings import Addressing, Reach
from penstock.compiler.weights import runtime_weights
from penstock.core.kinds import Service
from penstock.envoy import copies
from penstock.envoy.cluster import Protocol, Role, application
from penstock.envoy.runtime import LAYER, runtime
from penstock.gatewayapi.attach import ParentKind
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.resources import Gateway
from penstock.incremental.query import Query, query
from penstock.ir.external import External, Place, target_of_xbackend
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

MAX_RESERVED = 255
"""Largest identity that stands for something else than workloads."""


class Output(msgspec.Struct, frozen=True, cache_hash=True):
    """A query whose value is a resource, or None for none."""

    query: Query[Database, Any, Resource | None]
    key: Hashable
    node: str = EVERY_NODE
    """Name of the only node that gets it."""


Outputs = tuple[Output, ...]
RootQuery = Query[Database, Any, Outputs]


class Root(msgspec.Struct, frozen=True):
    """Name of a goal: the outputs of one object."""

    query: RootQuery
    key: Any


@query
def of_service(db: Database, name: NamespacedName) -> Outputs:
    """Return the outputs of a Service."""
    service = db.services.get(name)
    return () if service is None else tuple(_of_service(db, service))


def _of_service(db: Database, service: Service) -> Iterator[Output]:
    addresses = frontends(db, service.key)
    yield from _balanced(db, service)
    for spec in service.spec.ports:
        target = ServicePort(service.key, spec.port)
        told = kernel_services.kernel_services(
            db, KernelPort(service.key, spec.port, spec.protocol)
        )
        proxied = True in [one.proxy for one in told]
        for one in told if addresses else ():
            yield from _for_kernels(db, one)
        if spec.protocol != "TCP":
            continue
        yield from _clusters(db, target, proxied=proxied)
        for address in addresses if proxied else ():
            yield Output(scopes.egress_scope, EgressScope(target, address))
            if server_names.reads_server_names(db, target):
                yield Output(server_names.passing_scope, EgressScope(target, address))


def _for_kernels(db: Database, told: KernelService) -> Iterator[Output]:
    """Yield what kernels are told: all the same, unless nodes keep to endpoints of their own."""
    if not kernel_services.differs_by_node(db, told):
        yield Output(kernel_services.kernel_service, told)
        return
    for node in db.nodes.bucket("all", ALL):
        yield Output(kernel_services.kernel_service_on, KernelServiceOn(told, node), node)


def _balanced(db: Database, service: Service) -> Iterator[Output]:
    """Yield what a LoadBalancer is reached by from outside, at the nodes that have it."""
    if not is_balanced(service):
        return
    on = sorted({place.node for place in nodes.places(db, service.ref)})
    for spec in service.spec.ports if on else ():
        if load_balancers.is_served(service, spec.protocol):
            port = KernelPort(service.key, spec.port, spec.protocol)
            kept = nodes.is_kept_outside(db, service.key)
            if not kept:
                yield Output(load_balancers.balanced_cluster, port)
                yield Output(load_balancers.balanced_assignment, port)
            for at in (PortOn(port, node) for node in on):
                if kept:
                    yield Output(load_balancers.balanced_cluster, port, at.node)
                    yield Output(load_balancers.balanced_assignment_on, at, at.node)
                yield Output(load_balancers.balanced_listener, at, at.node)
    yield from _answering(db, service.ref)


def _clusters(db: Database, target: ServicePort, *, proxied: bool) -> Iterator[Output]:
    kinds = {
        Role.MESH: proxied
        or db.routes.holds("backend", (ParentKind.SERVICE, target))
        or kernel_services.is_sent_requests(db, target),
        Role.GATEWAY: db.routes.holds("backend", (ParentKind.GATEWAY, target)),
    }
    for role, wanted in kinds.items():
        if wanted:
            of = RoleOf(role, target)
            yield Output(services.cluster, of)
            yield from _endpoints(db, of)
    yield from _clusters_of_some(db, target)
    for role in (Role.AUTH, Role.AUTH_GRPC) if _anybody_is_asked(db, None) else ():
        if _is_asked(db, role, target):
            of = RoleOf(role, target)
            yield Output(services.cluster, of)
            yield Output(services.authorities, of)
    if db.telemetry.holds("collector", target) and telemetry.collects(db, target):
        of = RoleOf(Role.TRACES, target)
        yield Output(services.cluster, of)
        yield Output(services.authorities, of)
    if any(kinds.values()):
        yield Output(services.egress_rules, target)
        yield Output(services.ingress_rules, target)
    yield from _passed(db, target)


def _clusters_of_some(db: Database, target: ServicePort) -> Iterator[Output]:
    """Yield the clusters by which only some Gateways, or some routes, get there."""
    for key in gateway_clusters.showing_towards(db, target):
        for node in nodes_showing(db, key.secret):
            yield Output(gateway_clusters.showing_cluster, key, node)
    for met in upstreams.met_towards(db, target):
        for node in nodes_showing(db, upstreams.shown_to(db, met)):
            yield Output(upstreams.met_cluster, met, node)


def _passed(db: Database, target: ServicePort) -> Iterator[Output]:
    """Yield what TLS of pods gets there by."""
    if not db.routes.holds("passed", target):
        return
    yield Output(server_names.passed_cluster, target)
    if not is_kept(db, target.service):
        yield Output(server_names.passed_assignment, target)
        return
    port = KernelPort(target.service, target.port, "TCP")
    for at in (PortOn(port, node) for node in db.nodes.bucket("all", ALL)):
        yield Output(server_names.passed_assignment_on, at, at.node)


def _endpoints(db: Database, of: RoleOf) -> Iterator[Output]:
    """Yield where a cluster of a Service port leads; Gateways keep to no node."""
    if of.role is not Role.MESH or not is_kept(db, of.target.service):
        yield Output(services.assignment, of)
        return
    for node in db.nodes.bucket("all", ALL):
        yield Output(services.assignment_on, RoleOn(of, node), node)


@query
def _anybody_is_asked(db: Database, _: None) -> bool:
    """Tell whether a route or a listener has ever asked whether requests may pass."""
    return any(one.ever("authority") for one in (db.routes, db.gateways, db.listener_sets))


def _is_asked(db: Database, role: Role, target: ServicePort) -> bool:
    """Tell whether some route or listener asks at a Service port whether requests may pass."""
    asked = (role, target)
    return (
        db.routes.holds("authority", asked)
        or db.gateways.holds("authority", asked)
        or db.listener_sets.holds("authority", asked)
    )


@query
def of_workload(db: Database, uid: str) -> Outputs:
    """Return the outputs of a pod."""
    workload = db.workloads.get(uid)
    if workload is None:
        return ()
    found = [Output(scopes.node_workload, uid)]
    captured = workload.captured and bool(workload.node)
    if captured:
        found.append(Output(scopes.egress_listener, uid, workload.node))
        found.append(Output(scopes.ingress_listener, uid, workload.node))
    for address in workload_addresses(db, uid):
        for port in scopes.policed_ports(db, workload.identity) if captured else ():
            at = PodPort(uid, address, port)
            found.append(Output(scopes.inbound_scope, at, workload.node))
        for port in sorted(http_asked_of(db, workload.identity)):
            at = PodPort(uid, address, port)
            found.append(Output(scopes.direct_scope, at))
    return tuple(found)


@query
def of_identity(db: Database, identity: int) -> Outputs:
    """Return the outputs of an identity; the reserved ones have no policy."""
    known = identity > MAX_RESERVED and db.identities.get(identity) is not None
    return (Output(scopes.node_policy, identity),) if known else ()


@query
def of_gateway(db: Database, name: NamespacedName) -> Outputs:
    """Return the outputs of a Gateway."""
    found: list[Output] = []
    ref = gateway_ref(name)
    on, where = _nodes_of(db, name), routes_at(db, name)
    for at in ports(db, name):
        if db.settings.reach is Reach.CLUSTER:
            found += (
                Output(gateway_listeners.gateway_listener_on, ListenerOn(at, node), node)
                for node in on
            )
        else:
            found.append(Output(gateway_listeners.gateway_listener, at))
        found.extend(
            Output(gateways.exact_scope, GatewayHost(at, host), node)
            for host in gateways.exact_listeners_hosts(db, at)
            for node in where
        )
        if gateways.wide_hosts(db, at):
            found.extend(Output(gateways.wildcard_scope, at, node) for node in where)
        for key in streams.stream_hosts(db, at):
            meets = on if on and streams.shows_certificate(db, key) else where
            found.extend(Output(streams.stream_cluster, key, node) for node in meets)
            found.extend(Output(streams.stream_assignment, key, node) for node in where)
    return (*found, *_answering(db, ref))


def _nodes_of(db: Database, gateway: NamespacedName) -> list[str]:
    return sorted({place.node for place in nodes.places(db, gateway_ref(gateway))})


@query
def routes_at(db: Database, gateway: NamespacedName) -> tuple[str, ...]:
    """Return the nodes that have use for the routes of a Gateway, sorted; EVERY_NODE alone for all.

    Where addresses are from a pool, these are the few that answer for its addresses. A Gateway of a
    cluster that is nowhere has none.
    """
    if db.settings.reach is not Reach.CLUSTER:
        return (EVERY_NODE,)
    on = _nodes_of(db, gateway)
    few = db.settings.addressing is Addressing.POOL and not is_inside(db, gateway)
    return tuple(on) if few or not on else (EVERY_NODE,)


@query
def of_hostname(db: Database, asked: HostnameAt) -> Outputs:
    """Return the outputs of a hostname that routes write: the scope of an exact one."""
    gateway = asked.parent
    if asked.kind is ParentKind.LISTENER_SET:
        added_to = gateway_of(db, asked.parent)
        if added_to is None:
            return ()
        gateway = added_to
    exact = not asked.hostname.startswith("*")
    hosts = (GatewayHost(at, asked.hostname) for at in (ports(db, gateway) if exact else ()))
    return tuple(
        Output(gateways.exact_scope, host, node)
        for host in hosts
        if gateways.claimed_on(db, host)
        for node in routes_at(db, gateway)
    )


def _answering(db: Database, ref: ObjectRef) -> Iterator[Output]:
    """Yield the addresses of a pool by which *ref* is reached, each for the node that has it."""
    inside = ref.kind == Gateway.kind and is_inside(db, ref.key)
    if db.settings.addressing is Addressing.POOL and not inside:
        for place in nodes.places(db, ref):
            yield Output(nodes.node_address, Answered(place, ref), place.node)


@query
def of_external(db: Database, name: NamespacedName) -> Outputs:
    """Return the outputs of an XBackend: none unless requests or traces are sent there."""
    place = external_place(db, name)
    return () if place is None or isinstance(place, Fault) else tuple(_of_place(db, name, place))


def _of_place(db: Database, name: NamespacedName, place: Place) -> Iterator[Output]:
    roles, target = tuple(external.roles_of(db, name, place)), target_of_xbackend(name)
    on = nodes_showing(db, place.tls.certificate if place.tls is not None else None)
    if db.telemetry.holds("collector", target) and telemetry.collects(db, target):
        for node in on:
            yield Output(telemetry.cluster_of_xbackend, name, node)
        if not isinstance(place, External):
            yield Output(services.authorities, RoleOf(Role.TRACES, target))
    if isinstance(place, External):
        keys = [external.ExternalFor(name, mesh=role is Role.MESH) for role in roles]
        yield from (Output(external.cluster_of_external, key, node) for key in keys for node in on)
        if Role.MESH in roles:
            yield Output(external.external_rules, name)
        return
    sent = [RoleOf(role, target) for role in roles]
    yield from (Output(external.selected_cluster, of, node) for of in sent for node in on)
    yield from (Output(services.assignment, of) for of in sent)
    if sent:
        yield Output(services.egress_rules, target)
        yield Output(services.ingress_rules, target)
    yield from _passed(db, target)


@query
def of_peer(_db: Database, name: str) -> Outputs:
    """Return the outputs of a node, or of a pod of Envoy."""
    return (Output(nodes.node_peer, name),)


@query
def of_secret(db: Database, name: NamespacedName) -> Outputs:
    """Return the outputs of a Secret: none unless a listener serves with it."""
    nodes_of = secret_nodes(db, name)
    return tuple(Output(certificates.tls_secret, name, node) for node in nodes_of)


@query
def of_node(db: Database, _: None) -> Outputs:
    """Return the outputs that belong to no object."""
    always: Outputs = (
        Output(application_cluster, None),
        Output(runtime_layer, None),
        Output(backend_tls.system_authorities, None),
    )
    if db.routes.holds("passing", ALL):
        always += (
            Output(server_names.hop_cluster, None),
            Output(server_names.hop_listener, None),
        )
    if not db.routes.holds("copied", ALL):
        return always
    hops = (Output(copies_cluster, protocol) for protocol in copies.PROTOCOLS)
    return (*always, *hops, Output(copies_listener, None))


@query
def application_cluster(_db: Database, _: None) -> Resource | None:
    """Return the cluster of the applications."""
    made = application()
    return encode_resource(types.CLUSTER, made.name, made)


@query
def copies_cluster(_db: Database, protocol: Protocol) -> Resource | None:
    """Return the cluster by which copies of requests, in one protocol, get to their listener."""
    made = copies.cluster(protocol)
    return encode_resource(types.CLUSTER, made.name, made)


@query
def copies_listener(_db: Database, _: None) -> Resource | None:
    """Return the listener for copies of requests."""
    made = copies.listener()
    return encode_resource(types.LISTENER, made.name, made)


@query
def runtime_layer(db: Database, _: None) -> Resource | None:
    """Return the runtime layer: weights of routes, where no session can stay, pace of tracers."""
    keys = {
        **runtime_weights(db, None),
        **session_gates(db, None),
        **telemetry.runtime_keys(db, None),
    }
    return encode_resource(types.RUNTIME, LAYER, runtime(keys))
