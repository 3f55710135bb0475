"""Queries about XBackends that routes lead to: their clusters and rules, and their statuses."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.compiler.backend_tls import gateways_of
from penstock.compiler.database import Database
from penstock.compiler.indexes import ALL
from penstock.compiler.kernel_services import is_sent_requests
from penstock.compiler.policies import Toward, egress_enforced, toward
from penstock.compiler.routing import head
from penstock.compiler.selected import external_place, selects_nothing, xbackend
from penstock.compiler.services import RoleOf, rules_resource, unrestricted
from penstock.compiler.telemetry import gateways_telling
from penstock.envoy import cluster as clusters
from penstock.envoy import rbac
from penstock.envoy.cluster import Protocol, Role, cluster_name
from penstock.envoy.external import external_cluster, external_name, external_rules_name
from penstock.envoy.upstream_tls import secure
from penstock.gatewayapi.attach import ParentKind, kind_of, target_of
from penstock.gatewayapi.backends import why_unspoken
from penstock.gatewayapi.external_backends import backend_conditions
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.incremental.query import query
from penstock.ir.external import (
    External,
    Place,
    Selected,
    Spoken,
    shows_certificate,
    target_of_xbackend,
    xbackend_of,
)
from penstock.ir.policy import Direction, Reserved
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.networks import PRIVATE_NETWORKS, is_private
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource

MAX_ANCESTORS = 32
"""BackendStatus.ancestors."""
PARENTS = {Role.MESH: ParentKind.SERVICE, Role.GATEWAY: ParentKind.GATEWAY}
"""By whom requests come to a cluster of each role."""


class ExternalFor(msgspec.Struct, frozen=True, order=True):
    """The cluster of a place outside of the cluster, for Gateways or for pods."""

    name: NamespacedName
    mesh: bool


def roles_of(db: Database, name: NamespacedName, place: Place) -> Iterator[Role]:
    """Yield the roles in which requests are sent to an XBackend."""
    target, shows = target_of_xbackend(name), shows_certificate(place)
    streams = isinstance(place, Selected) and place.tls is None and is_sent_requests(db, target)
    for role, kind in PARENTS.items():
        asked = place.spoken is not Spoken.BYTES and db.routes.holds("backend", (kind, target))
        if asked and shows:  # only Gateways do, and a Cluster waits for its key
            asked = role is Role.GATEWAY and bool(gateways_asking(db, name, place))
        if asked or (streams and role is Role.MESH):
            yield role


def gateways_asking(db: Database, name: NamespacedName, place: Place) -> set[NamespacedName]:
    """Return the Gateways of ours that send what routes bring to an XBackend."""
    return {
        gateway
        for route in db.routes.bucket("external", name)
        if not why_unspoken(place, route.kind, mesh=False)
        for gateway in gateways_of(db, route)
    }


@query
def cluster_of_external(db: Database, key: ExternalFor) -> Resource | None:
    """Return the Cluster of a place outside of the cluster."""
    place = external_place(db, key.name)
    if not isinstance(place, External):
        return None
    protocol = _protocol(db, key.name, place, Role.MESH if key.mesh else Role.GATEWAY)
    netns = db.settings.dial_netns
    made = external_cluster(key.name, place, protocol, mesh=key.mesh, node_netns=netns)
    name = external_name(key.name, mesh=key.mesh)
    return encode_resource(types.CLUSTER, name, made, [place.origin])


@query
def selected_cluster(db: Database, of: RoleOf) -> Resource | None:
    """Return the Cluster of the pods of an XBackend in one role."""
    role, name = of.role, xbackend_of(of.target.service)
    place = external_place(db, name) if name is not None else None
    if name is None or not isinstance(place, Selected):
        return None
    protocol = _protocol(db, name, place, role)
    made = clusters.policed(role, of.target, protocol, node_netns=db.settings.dial_netns)
    if place.tls is not None:
        secure(made, place.tls, http2=protocol is Protocol.HTTP2)
    return encode_resource(types.CLUSTER, cluster_name(role, of.target), made, [place.origin])


def _protocol(db: Database, name: NamespacedName, place: Place, role: Role) -> Protocol:
    """Return what a place is spoken to in; calls of gRPC are HTTP/2 always.

    Connections that policy reads go on in what their client speaks.
    """
    if place.spoken is Spoken.BYTES:
        return Protocol.SAME
    if place.spoken is not Spoken.ANY:
        return Protocol.HTTP2 if place.spoken is Spoken.HTTP2 else Protocol.HTTP1
    target, plain = target_of_xbackend(name), place.tls is None
    if not db.routes.holds("grpc", target):
        return Protocol.SAME if role is Role.MESH and plain else Protocol.HTTP1
    kinds = {one.kind for one in db.routes.bucket("backend", (PARENTS[role], target))}
    if GRPCRoute.kind not in kinds:
        return Protocol.HTTP1
    return Protocol.SAME if plain and len(kinds) > 1 else Protocol.HTTP2


@query
def external_rules(db: Database, name: NamespacedName) -> Resource | None:
    """Return the clients' egress rules toward a place outside of the cluster.

    An address that a pod or a node has, or may have, is not outside: who has egress rules does not
    get there by a name.
    """
    place = external_place(db, name)
    if not isinstance(place, External):
        return None
    enforced = egress_enforced(db, None)
    elsewhere = (*PRIVATE_NETWORKS, *_known_addresses(db, None)) if enforced else ()
    judgements = [unrestricted(enforced)]
    judgements += [
        rbac.Judgement(name=str(allow.origin), allow=allow, elsewhere=elsewhere)
        for client in enforced
        for allow in toward(db, Toward(client, int(Reserved.WORLD), place.port))
    ]
    target = target_of_xbackend(name)
    return rules_resource(external_rules_name(name), judgements, Direction.EGRESS, target)


@query
def _known_addresses(db: Database, _: None) -> tuple[rbac.Network, ...]:
    """Return the addresses of pods and nodes that are in no private network, sorted."""
    found: set[str] = set()
    for uid in db.workloads.bucket("public", ALL):
        workload = db.workloads.get(uid)
        found.update(workload.addresses if workload is not None else ())
    for name in db.peers.bucket("public", ALL):
        peer = db.peers.get(name)
        found.update(peer.addresses if peer is not None else ())
    return tuple((one, 128 if ":" in one else 32) for one in sorted(found) if not is_private(one))


class SentFrom(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends to an XBackend, and what that is told of it."""

    senders: tuple[ObjectRef, ...]
    """Gateways of ours, then Services with routes."""
    conditions: dict[str, tuple[Condition, ...]]
    """By the kind of the sender."""


@query
def external_state(db: Database, name: NamespacedName) -> SentFrom | None:
    """Return the conditions of an XBackend and those who send there."""
    backend, found = db.externals.get(name), xbackend(db, name)
    if backend is None or found is None:
        return None
    gateways: set[NamespacedName] = set()
    services: set[NamespacedName] = set()
    for route in db.routes.bucket("external", name):
        gateways |= gateways_of(db, route)
        services |= _services_of(db, route)
    gateways |= gateways_telling(db, target_of_xbackend(name))
    senders = [ObjectRef("Gateway", *_parts(one)) for one in sorted(gateways)]
    senders += [ObjectRef("Service", *_parts(one)) for one in sorted(services)]
    empty = selects_nothing(db, name)
    return SentFrom(
        senders=tuple(senders[:MAX_ANCESTORS]),
        conditions={
            "Gateway": backend_conditions(backend, found, empty=empty),
            "Service": backend_conditions(backend, found, empty=empty, mesh=True),
        },
    )


def _parts(name: NamespacedName) -> tuple[str, str]:
    return name.namespace, name.name


def _services_of(db: Database, name: ObjectRef) -> set[NamespacedName]:
    """Return the Services that a route is on."""
    route = head(db, name)
    parents = route.parents if route is not None else ()
    on = {target_of(one, name.key) for one in parents if kind_of(one) is ParentKind.SERVICE}
    return {one for one in on if db.services.get(one) is not None}
