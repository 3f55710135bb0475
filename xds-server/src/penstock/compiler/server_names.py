"""Queries about TLSRoutes on Services: scopes by server name, and the clusters they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.compiler.database import Database
from penstock.compiler.endpoints import (
    Backend,
    KernelPort,
    PortOn,
    backends,
    one_family,
    origin_of,
    reached_on,
)
from penstock.compiler.routing import (
    RouteFor,
    clients_of,
    head,
    kinds_on,
    routes_on,
    translated,
)
from penstock.compiler.scopes import EgressScope
from penstock.envoy import server_names as envoy
from penstock.envoy.endpoint import assignment_bytes
from penstock.envoy.scope import destination, scope, server_name_key
from penstock.gatewayapi.server_names import AskedNames, server_names
from penstock.gatewayapi.stream_resources import TLSRoute
from penstock.incremental.query import query
from penstock.ir.route import ServiceBackend, ServicePort
from penstock.ir.server_name import ServerName
from penstock.meta.names import Origin
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource, make_resource


def reads_server_names(db: Database, target: ServicePort) -> bool:
    """Tell whether server names say where TLS to a Service port goes."""
    return any(name.kind == TLSRoute.kind for name, _ in routes_on(db, target))


@query
def names_on(db: Database, target: ServicePort) -> tuple[ServerName, ...]:
    """Return where TLS to a Service port goes."""
    kinds = kinds_on(db, target)
    consumers = {one.namespace for one in kinds if one.carrier == "TCP" and one.namespace}
    return server_names(_asked(db, target), consumers)


def _asked(db: Database, target: ServicePort) -> Iterator[AskedNames]:
    for name, role in routes_on(db, target):
        about = head(db, name) if name.kind == TLSRoute.kind else None
        made = translated(db, RouteFor(name, mesh=True)) if about is not None else None
        if about is not None and made is not None:
            yield AskedNames(
                clients=clients_of(name, role).namespace,
                age=about.age,
                hostnames=about.hostnames,
                backends=made.backends,
                origin=Origin(name),
            )


@query
def passing_scope(db: Database, key: EgressScope) -> Resource:
    """Return the scope of TLS to a Service's virtual address."""
    names = names_on(db, key.target)
    name = server_name_key(destination(key.address, key.target.port))
    made = scope(name, envoy.virtual_hosts(names))
    ways = [way for one in names for way in one.ways]
    origins = sorted({origin for way in ways for origin in way.origins})
    needs = {
        ResourceName(kind, envoy.passed_name(backend.target))
        for way in ways
        for backend in way.backends
        if isinstance(backend, ServiceBackend)
        for kind in (types.CLUSTER, types.ENDPOINTS)
    }
    hop = {ResourceName(types.CLUSTER, envoy.CLUSTER)}
    service = Origin.of("Service", key.target.service)
    return encode_resource(types.SCOPE, name, made, [*origins, service], needs | hop)


@query
def passed_cluster(db: Database, target: ServicePort) -> Resource:
    """Return the Cluster by which TLS gets to a Service port."""
    made = envoy.passed_cluster(target, node_netns=db.settings.dial_netns)
    return encode_resource(types.CLUSTER, made.name, made, [origin_of(target)])


@query
def passed_assignment(db: Database, target: ServicePort) -> Resource:
    """Return the ClusterLoadAssignment for that."""
    return _passed_to(target, backends(db, KernelPort(target.service, target.port, "TCP")))


@query
def passed_assignment_on(db: Database, at: PortOn) -> Resource:
    """Return the ClusterLoadAssignment for that and for the pods of one node."""
    target = ServicePort(at.port.service, at.port.port)
    return _passed_to(target, reached_on(db, at.port, at.node))


def _passed_to(target: ServicePort, to: Sequence[Backend]) -> Resource:
    name, found = envoy.passed_name(target), one_family(to)
    made = assignment_bytes(name, tuple((one.address, one.port) for one in found))
    return make_resource(types.ENDPOINTS, name, made, [origin_of(target)])


@query
def hop_cluster(_db: Database, _: None) -> Resource:
    """Return the cluster by which TLS of pods gets to the listener that knows the scopes."""
    made = envoy.cluster()
    return encode_resource(types.CLUSTER, made.name, made)


@query
def hop_listener(_db: Database, _: None) -> Resource:
    """Return that listener."""
    made = envoy.listener()
    return encode_resource(types.LISTENER, made.name, made)
