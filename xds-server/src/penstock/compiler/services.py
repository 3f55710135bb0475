"""Queries about Services: the identities behind them, and the resources of one port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.compiler.addresses import anybody_has_address, identity_at
from penstock.compiler.backend_tls import tls_towards
from penstock.compiler.backend_traffic import retry_budget
from penstock.compiler.database import Database
from penstock.compiler.endpoints import (
    Backend,
    KernelPort,
    backends,
    one_family,
    origin_of,
    port_of,
    reached_on,
)
from penstock.compiler.policies import (
    PortOf,
    Toward,
    egress_enforced,
    http_asked_of,
    judged,
    toward,
)
from penstock.compiler.selected import selected_pods
from penstock.core.kinds import ServicePort as PortSpec
from penstock.envoy import cluster as clusters
from penstock.envoy import rbac
from penstock.envoy.cluster import JUDGED, Protocol, Role, cluster_name, showing_name
from penstock.envoy.endpoint import assignment_bytes
from penstock.envoy.retry_budget import limit_retries
from penstock.envoy.tls import secret_name
from penstock.envoy.upstream_tls import secure
from penstock.gatewayapi.attach import ParentKind
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.incremental.query import query
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.ir.external import xbackend_of
from penstock.ir.policy import SCTP, TCP, UDP, Direction, HttpAllow, HttpPort, Reserved
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, Origin
from penstock.policy.resolve import DEFAULT_ALLOW
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource, make_resource

HTTP2_PROTOCOLS = frozenset({"kubernetes.io/h2c", "grpc"})
"""Values of appProtocol that are HTTP/2 without TLS."""
OTLP_HTTP_PORT = 4318
"""Source: OpenTelemetry protocol specification."""
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


class RoleOf(msgspec.Struct, frozen=True, order=True):
    """The cluster of a Service port in one role."""

    role: Role
    target: ServicePort


class Group(msgspec.Struct, frozen=True):
    """Endpoints of one identity and port: policy is the same for all of them."""

    identity: int
    """Reserved.INIT for pods that are not known, or not yet: nobody may ask them anything."""
    port: int
    addresses: tuple[str, ...]

    @property
    def places(self) -> tuple[rbac.Place, ...]:
        """Return address and port of each."""
        return tuple((address, self.port) for address in self.addresses)


class RoleOn(msgspec.Struct, frozen=True, order=True):
    """The endpoints of a cluster as one node has them."""

    of: RoleOf
    node: str


def otlp_by_grpc(spec: PortSpec) -> bool:
    """Tell whether a port of a collector takes OTLP by gRPC, or else by HTTP.

    What it says of itself counts, then its number and its name.
    """
    if spec.app_protocol:
        return spec.app_protocol in HTTP2_PROTOCOLS
    return spec.port != OTLP_HTTP_PORT and "http" not in (spec.name or "")


def _pods_behind(db: Database, service: NamespacedName) -> dict[str, NamespacedName]:
    """Return address → pod for the endpoints of a Service that say that they are pods."""
    selecting = xbackend_of(service)
    if selecting is not None:
        return selected_pods(db, selecting)
    found: dict[str, NamespacedName] = {}
    for name in db.slices.bucket("service", service):
        slice_ = db.slices.get(name)
        for endpoint in slice_.endpoints if slice_ is not None else ():
            if endpoint.target_ref is not None and endpoint.target_ref.kind == "Pod":
                pod = NamespacedName(service.namespace, endpoint.target_ref.name)
                found.update(dict.fromkeys(endpoint.addresses, pod))
    return found


def _identity_of(
    db: Database, address: str, pods: Mapping[str, NamespacedName], *, anybody: bool
) -> int:
    """Return the identity of an endpoint; what says that it is a pod is never WORLD."""
    identity = identity_at(db, address) if anybody else int(Reserved.WORLD)
    pod = pods.get(address)
    if identity != Reserved.WORLD or pod is None or db.host_network.get(pod):
        return identity
    return int(Reserved.INIT)


@query
def groups(db: Database, target: ServicePort) -> tuple[Group, ...]:
    """Return the endpoints of a Service port by identity and port."""
    found: dict[tuple[int, int], list[str]] = {}
    pods, anybody = _pods_behind(db, target.service), anybody_has_address(db)
    for backend in backends(db, KernelPort(target.service, target.port, "TCP")):
        key = _identity_of(db, backend.address, pods, anybody=anybody), backend.port
        found.setdefault(key, []).append(backend.address)
    return tuple(Group(*key, tuple(found[key])) for key in sorted(found))


@query
def endpoint_kinds(db: Database, target: ServicePort) -> tuple[tuple[int, int], ...]:
    """Return (identity, port) of the endpoints; adding one more of the same changes nothing."""
    return tuple((group.identity, group.port) for group in groups(db, target))


def egress_reads_http(db: Database, target: ServicePort) -> bool:
    """Tell whether some client's egress rules read HTTP on its way to this Service port."""
    return bool(egress_enforced(db, None)) and _egress_reads_http(db, target)


@query
def _egress_reads_http(db: Database, target: ServicePort) -> bool:
    return any(port in http_asked_of(db, i) for i, port in endpoint_kinds(db, target))


@query
def cluster(db: Database, of: RoleOf) -> Resource | None:
    """Return the Cluster of a Service port in one role."""
    role, target = of.role, of.target
    service = db.services.get(target.service)
    spec = port_of(service, target.port) if service is not None else None
    if spec is None:
        return None
    tls = tls_towards(db, target) if role is not Role.MESH else None
    protocol, netns = _protocol(db, spec, of, tls), db.settings.dial_netns
    name, origin = cluster_name(role, target), Origin.of("Service", target.service)
    budget = retry_budget(db, target.service) if role in JUDGED else None
    if role in JUDGED and budget is None and not isinstance(tls, BackendTls):
        made = clusters.policed_bytes(role, target, protocol, node_netns=netns)
        return make_resource(types.CLUSTER, name, made, [origin])
    build = clusters.policed if role in JUDGED else clusters.asked
    message = build(role, target, protocol, node_netns=netns)
    origins = [origin]
    if budget is not None:
        limit_retries(message, budget)
        origins.append(budget.origin)
    if isinstance(tls, BackendTls):
        secure(message, tls, http2=protocol is Protocol.HTTP2)
        origins.append(tls.origin)
    return encode_resource(types.CLUSTER, name, message, origins)


def gateway_cluster(db: Database, target: ServicePort, shown: NamespacedName) -> Resource | None:
    """Return the Cluster of a Service port for Gateways that show the certificate *shown* there.

    None if TLS is not spoken to it. Endpoints and rules are those of all Gateways.
    """
    service, tls = db.services.get(target.service), tls_towards(db, target)
    spec = port_of(service, target.port) if service is not None else None
    if spec is None or not isinstance(tls, BackendTls):
        return None
    protocol = _protocol(db, spec, RoleOf(Role.GATEWAY, target), tls)
    made = clusters.policed(Role.GATEWAY, target, protocol, node_netns=db.settings.dial_netns)
    made.eds_cluster_config.service_name = made.name
    made.name = showing_name(target, shown)
    secure(made, tls, http2=protocol is Protocol.HTTP2, shown=secret_name(shown))
    origins = [Origin.of("Service", target.service), tls.origin, Origin.of("Secret", shown)]
    budget = retry_budget(db, target.service)
    if budget is not None:
        limit_retries(made, budget)
        origins.append(budget.origin)
    shared = ResourceName(types.ENDPOINTS, made.eds_cluster_config.service_name)
    return encode_resource(types.CLUSTER, made.name, made, origins, [shared])


def _protocol(
    db: Database, spec: PortSpec, of: RoleOf, tls: BackendTls | RefusedTls | None
) -> Protocol:
    """Return what the endpoints are spoken to in; calls of gRPC are HTTP/2 always."""
    role = of.role
    if role is Role.TRACES:
        return Protocol.HTTP2 if otlp_by_grpc(spec) else Protocol.HTTP1
    if spec.app_protocol in HTTP2_PROTOCOLS or role is Role.AUTH_GRPC:
        return Protocol.HTTP2
    if role is Role.MESH:
        return Protocol.SAME
    if role is Role.AUTH:
        return Protocol.HTTP1
    if not db.routes.holds("grpc", of.target):
        return Protocol.HTTP1
    others = db.routes.bucket("backend", (ParentKind.GATEWAY, of.target))
    mixed = any(name.kind != GRPCRoute.kind for name in others)
    plain = tls is None
    return Protocol.SAME if mixed and plain else Protocol.HTTP2


@query
def assignment(db: Database, of: RoleOf) -> Resource:
    """Return the ClusterLoadAssignment of a Service port in one role."""
    if of.role is Role.GATEWAY and isinstance(tls_towards(db, of.target), RefusedTls):
        return _assignment(of, ())
    found = backends(db, KernelPort(of.target.service, of.target.port, "TCP"))
    return _assignment(of, found)


@query
def assignment_on(db: Database, at: RoleOn) -> Resource:
    """Return the ClusterLoadAssignment of a Service port for the pods of one node."""
    port = KernelPort(at.of.target.service, at.of.target.port, "TCP")
    return _assignment(at.of, reached_on(db, port, at.node))


def _assignment(of: RoleOf, found: Sequence[Backend]) -> Resource:
    name = cluster_name(of.role, of.target)
    made = assignment_bytes(name, tuple((b.address, b.port) for b in one_family(found)))
    return make_resource(types.ENDPOINTS, name, made, [origin_of(of.target)])


@query
def authorities(db: Database, of: RoleOf) -> Resource:
    """Return the ClusterLoadAssignment for questions: who takes all from Gateways.

    Envoy's upstream filters do not see these, so policy is applied to the endpoints beforehand:
    what would depend on the request itself is not sent.
    """
    refused = isinstance(tls_towards(db, of.target), RefusedTls)
    found = [
        Backend(address, group.port)
        for group in (() if refused else groups(db, of.target))
        for address in (group.addresses if _open_to_gateways(_inbound(db, group)) else ())
    ]
    return _assignment(of, sorted(found))


def _open_to_gateways(rule: HttpPort) -> bool:
    gateways = int(Reserved.INGRESS)
    return (
        rule.denied is not None
        and gateways not in rule.denied
        and any(
            not allow.rules and (allow.peers is None or gateways in allow.peers)
            for allow in rule.allows
        )
    )


@query
def ingress_rules(db: Database, target: ServicePort) -> Resource:
    """Return the servers' inbound rules, for enforcement in the client's pass."""
    found = groups(db, target)
    rules = [_inbound(db, group) for group in found]
    same = all((r.allows, r.denied) == (rules[0].allows, rules[0].denied) for r in rules)
    judgements: list[rbac.Judgement] = []
    for group, rule in list(zip(found, rules, strict=True))[: 1 if same else None]:
        if rule.denied is not None:
            where = () if same else group.places
            judgements.extend(_judgements(rule.allows, where, rule.denied))
    return rules_resource(
        clusters.ingress_rules_name(target), judgements, Direction.INGRESS, target
    )


def _inbound(db: Database, group: Group) -> HttpPort:
    if group.identity == Reserved.INIT:
        return HttpPort(direction=Direction.INGRESS, port=group.port, allows=(), denied=None)
    return judged(db, PortOf(group.identity, Direction.INGRESS, group.port))


@query
def egress_rules(db: Database, target: ServicePort) -> Resource:
    """Return the clients' egress rules toward the endpoints of a Service port."""
    enforced = egress_enforced(db, None)
    judgements = [unrestricted(enforced)]
    found = groups(db, target)
    for client in enforced:
        allowed = [toward(db, Toward(client, g.identity, g.port)) for g in found]
        if allowed and all(allows == allowed[0] for allows in allowed):
            judgements.extend(_judgements(allowed[0], ()))
            continue
        for group, allows in zip(found, allowed, strict=True):
            judgements.extend(_judgements(allows, group.places))
    return rules_resource(clusters.egress_rules_name(target), judgements, Direction.EGRESS, target)


def unrestricted(enforced: Iterable[int]) -> rbac.Judgement:
    """Return that clients may ask anything, but for those whose egress is *enforced*."""
    others = HttpAllow(peers=None, rules=(), origin=DEFAULT_ALLOW)
    return rbac.Judgement(name=str(DEFAULT_ALLOW), allow=others, denied=frozenset(enforced))


def _judgements(
    allows: Sequence[HttpAllow],
    endpoints: tuple[rbac.Place, ...],
    denied: frozenset[int] = frozenset(),
) -> Iterator[rbac.Judgement]:
    """Yield what lets requests pass to *endpoints*."""
    for allow in allows:
        yield rbac.Judgement(
            name=str(allow.origin), allow=allow, denied=denied, endpoints=endpoints
        )


def rules_resource(
    name: str, judgements: Sequence[rbac.Judgement], direction: Direction, target: ServicePort
) -> Resource:
    """Return the extension config *name* with rules about *target*."""
    made = rbac.ecds_bytes(name, tuple(judgements), direction)
    policies = {j.allow.origin for j in judgements if j.allow.origin != DEFAULT_ALLOW}
    origins = [origin_of(target), *sorted(policies)]
    return make_resource(types.EXTENSION, name, made, origins)
