"""Queries that make the scopes and listeners of the mesh, and the node's view of workloads."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.compiler.addresses import peer_addresses, workload_addresses
from penstock.compiler.database import Database
from penstock.compiler.policies import (
    PortOf,
    Toward,
    egress_enforced,
    endpoint,
    judged,
    toward,
)
from penstock.compiler.routing import mesh_host
from penstock.compiler.services import unrestricted
from penstock.compiler.weights import weights_in_runtime
from penstock.envoy import cluster as clusters
from penstock.envoy import copies, rbac
from penstock.envoy import listener as listeners
from penstock.envoy.cluster import APP_CLUSTER, Role, auth_cluster_name, cluster_name, met_name
from penstock.envoy.external import external_name, external_rules_name
from penstock.envoy.listener import RBAC_FILTER
from penstock.envoy.route import virtual_host
from penstock.envoy.scope import destination, egress_key, inbound_key, scope
from penstock.envoy.wire import pack
from penstock.incremental.query import query
from penstock.ir.policy import Direction, Verdict
from penstock.ir.route import (
    ExternalAuth,
    Forward,
    ServiceBackend,
    ServicePort,
    Subrequest,
    VirtualHost,
)
from penstock.meta.names import Origin
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.origins import encode_origin
from penstock.xds.resource import Resource, ResourceName, encode_resource


class EgressScope(msgspec.Struct, frozen=True, order=True):
    """What pods reach at one virtual address of a Service port."""

    target: ServicePort
    address: str


class PodPort(msgspec.Struct, frozen=True, order=True):
    """A port of a workload at one of its addresses."""

    uid: str
    address: str
    port: int


def clusters_of(host: VirtualHost, role: Role) -> Iterator[ResourceName]:
    """Yield what a node must have before it is sent these routes.

    The rules belong to it: a cluster whose rules have not come answers 503.
    """
    targets: dict[ServicePort, None] = {}
    for route in host.routes:
        if route.guards.auth is not None:
            yield from clusters_asked(route.guards.auth)
        if isinstance(route.action, Forward):
            targets.update(dict.fromkeys(route.action.targets))
            for backend in route.action.backends:
                if isinstance(backend, ServiceBackend) and backend.upstream is not None:
                    yield ResourceName(types.CLUSTER, met_name(backend.target, backend.upstream))
            for one in route.action.hosts:
                yield ResourceName(types.CLUSTER, external_name(one.target, mesh=one.mesh))
                if one.mesh:
                    yield ResourceName(types.EXTENSION, external_rules_name(one.target))
            for mirror in route.action.mirrors:
                yield ResourceName(types.CLUSTER, copies.cluster_name(http2=mirror.http2))
    for target in targets:
        yield from _ready_cluster(target, role)


def clusters_asked(auth: ExternalAuth | Subrequest) -> Iterator[ResourceName]:
    """Yield what a node must have to ask somebody."""
    by_grpc = isinstance(auth, ExternalAuth) and auth.grpc
    name = auth_cluster_name(auth.target, by_grpc)
    yield ResourceName(types.CLUSTER, name)
    yield ResourceName(types.ENDPOINTS, name)


def _ready_cluster(target: ServicePort, role: Role) -> Iterator[ResourceName]:
    name = cluster_name(role, target)
    yield ResourceName(types.CLUSTER, name)
    yield ResourceName(types.ENDPOINTS, name)
    yield ResourceName(types.EXTENSION, clusters.egress_rules_name(target))
    yield ResourceName(types.EXTENSION, clusters.ingress_rules_name(target))


@query
def egress_scope(db: Database, key: EgressScope) -> Resource:
    """Return the scope of a Service's virtual address."""
    target = key.target
    host = mesh_host(db, target)
    name = egress_key(destination(key.address, target.port))
    made = scope(name)
    virtual_host(
        host,
        lambda to: cluster_name(Role.MESH, to),
        runtime_weights=weights_in_runtime(db, None),
        into=made.route_configuration.virtual_hosts.add(),
    )
    origins = [
        *sorted({route.origin for route in host.routes}),
        Origin.of("Service", target.service),
    ]
    needs = clusters_of(host, Role.MESH)
    return encode_resource(types.SCOPE, name, made, dict.fromkeys(origins), needs)


@query
def addresses_of(db: Database, identity: int) -> tuple[str, ...]:
    """Return the addresses of all with one identity, sorted."""
    found: set[str] = set()
    for uid in db.workloads.bucket("identity", identity):
        found.update(workload_addresses(db, uid))
    for name in db.peers.bucket("identity", identity):
        found.update(peer_addresses(db, name))
    return tuple(sorted(found))


@query
def inbound_rules(db: Database, port: PortOf) -> bytes:
    """Return the serialised filter of what may pass to a port of one identity's pods."""
    rule = judged(db, port)
    peers = {peer for allow in rule.allows for peer in allow.peers or ()}
    denied = rule.denied or frozenset[int]()
    addresses = {peer: addresses_of(db, peer) for peer in sorted(peers | denied)}
    judgements = [
        rbac.Judgement(name=str(allow.origin), allow=allow, denied=denied)
        for allow in (rule.allows if rule.denied is not None else ())
    ]
    made = rbac.rules(judgements, rbac.ByAddress(addresses))
    return rbac.per_route(made, Direction.INGRESS).SerializeToString(deterministic=True)


@query
def inbound_scope(db: Database, key: PodPort) -> Resource | None:
    """Return the scope of a policed port of a pod, at one of its addresses."""
    workload = db.workloads.get(key.uid)
    if workload is None:
        return None
    port = PortOf(workload.identity, Direction.INGRESS, key.port)
    name = inbound_key(destination(key.address, key.port))
    origins = [
        Origin.of("Pod", workload.name),
        *sorted({a.origin for a in judged(db, port).allows}),
    ]
    return _to_application(name, inbound_rules(db, port), origins)


@query
def direct_rules(db: Database, port: PortOf) -> bytes:
    """Return the serialised filter of what clients may ask these pods by their own addresses."""
    enforced = egress_enforced(db, None)
    judgements = [unrestricted(enforced)]
    judgements += [
        rbac.Judgement(name=str(allow.origin), allow=allow)
        for client in enforced
        for allow in toward(db, Toward(client, port.identity, port.port))
    ]
    made = rbac.rules(judgements, rbac.ByListener())
    return rbac.per_route(made, Direction.EGRESS).SerializeToString(deterministic=True)


@query
def direct_scope(db: Database, key: PodPort) -> Resource | None:
    """Return the scope of a pod's own address, for clients whose egress rules read HTTP.

    The connection to the pod carries no mark: the pod's ingress rules are enforced at the pod.
    """
    workload = db.workloads.get(key.uid)
    if workload is None:
        return None
    rules = direct_rules(db, PortOf(workload.identity, Direction.EGRESS, key.port))
    name = egress_key(destination(key.address, key.port))
    return _to_application(name, rules, [Origin.of("Pod", workload.name)])


def _to_application(name: str, rules: bytes, origins: list[Origin]) -> Resource:
    host = route_pb2.VirtualHost(name="*", domains=["*"])
    route = host.routes.add(match=route_pb2.RouteMatch(prefix="/"))
    route.route.cluster = APP_CLUSTER
    route.route.timeout.SetInParent()
    per_route = pack(http_rbac_pb2.RBACPerRoute.FromString(rules))
    made = scope(name, [host], {RBAC_FILTER: per_route})
    return encode_resource(
        types.SCOPE, name, made, origins, [ResourceName(types.CLUSTER, APP_CLUSTER)]
    )


def policed_ports(db: Database, identity: int) -> tuple[int, ...]:
    """Return the ports on which the identity's ingress rules read HTTP, sorted."""
    http = endpoint(db, identity).http
    return tuple(sorted({one.port for one in http if one.direction is Direction.INGRESS}))


@query
def egress_listener(db: Database, uid: str) -> Resource | None:
    """Return the listener for what a pod sends."""
    workload = db.workloads.get(uid)
    if workload is None:
        return None
    made = listeners.egress(uid, workload.identity, workload.name.namespace)
    return encode_resource(types.LISTENER, made.name, made, [Origin.of("Pod", workload.name)])


@query
def ingress_listener(db: Database, uid: str) -> Resource | None:
    """Return the listener for what comes to a pod."""
    workload = db.workloads.get(uid)
    if workload is None:
        return None
    made = listeners.ingress(uid, workload.identity)
    needs = [ResourceName(types.CLUSTER, APP_CLUSTER)]
    return encode_resource(
        types.LISTENER, made.name, made, [Origin.of("Pod", workload.name)], needs
    )


@query
def node_workload(db: Database, uid: str) -> Resource | None:
    """Return the node.v1.Workload of a pod."""
    workload = db.workloads.get(uid)
    if workload is None:
        return None
    identity = db.identities.get(workload.identity)
    made = node_pb2.Workload(
        uid=uid,
        namespace=workload.name.namespace,
        name=workload.name.name,
        node=workload.node,
        addresses=workload_addresses(db, uid),
        identity=workload.identity,
        labels=identity.labels if identity is not None else {},
    )
    needs = [ResourceName(types.POLICY, str(workload.identity))]
    return encode_resource(types.WORKLOAD, uid, made, [Origin.of("Pod", workload.name)], needs)


_VERDICTS = {
    Verdict.ALLOW: node_pb2.VERDICT_ALLOW,
    Verdict.DENY: node_pb2.VERDICT_DENY,
    Verdict.PROXY: node_pb2.VERDICT_PROXY,
}
_DIRECTIONS = {
    Direction.INGRESS: node_pb2.DIRECTION_INGRESS,
    Direction.EGRESS: node_pb2.DIRECTION_EGRESS,
}


@query
def node_policy(db: Database, identity: int) -> Resource:
    """Return the node.v1.Policy of an identity."""
    policy = endpoint(db, identity)
    made = node_pb2.Policy(
        identity=identity,
        default_ingress=_VERDICTS[policy.default_ingress],
        default_egress=_VERDICTS[policy.default_egress],
        ingress_enforced_by=map(encode_origin, policy.ingress_enforced_by),
        egress_enforced_by=map(encode_origin, policy.egress_enforced_by),
    )
    for entry in policy.entries:
        made.entries.add(
            direction=_DIRECTIONS[entry.direction],
            peer=entry.peer,
            port=entry.port,
            protocol=entry.protocol,
            verdict=_VERDICTS[entry.verdict],
            origins=map(encode_origin, entry.origins),
        )
    origins = sorted({*policy.ingress_enforced_by, *policy.egress_enforced_by})
    return encode_resource(types.POLICY, str(identity), made, origins)
