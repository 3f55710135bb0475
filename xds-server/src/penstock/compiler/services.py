"""Queries about Services: endpoints, who routes to them, and the resources of one port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.compiler.addresses import anybody_has_address, identity_at
from penstock.compiler.backend_tls import tls_towards
from penstock.compiler.backend_traffic import retry_budget
from penstock.compiler.database import Database
from penstock.compiler.policies import (
    PortOf,
    Toward,
    egress_enforced,
    http_asked_of,
    judged,
    toward,
)
from penstock.compiler.selected import selected_pods, selected_port
from penstock.compiler.settings import Reach
from penstock.core.kinds import Endpoint, EndpointSlice, Service
from penstock.core.kinds import ServicePort as PortSpec
from penstock.core.pods import Pod
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
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ENDPOINT_SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
"""Label and value of slices whose endpoints are ready when their pods are.
Source: discovery.k8s.io/v1, well-known labels."""
OTLP_HTTP_PORT = 4318
"""Source: OpenTelemetry protocol specification."""
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


class Backend(msgspec.Struct, frozen=True, order=True):
    """One ready endpoint of a Service port."""

    address: str
    port: int


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


class KernelPort(msgspec.Struct, frozen=True, order=True):
    """A Service port of any protocol."""

    service: NamespacedName
    port: int
    protocol: str


class PortOn(msgspec.Struct, frozen=True, order=True):
    """A Service port as one node has it."""

    port: KernelPort
    node: str


class RoleOn(msgspec.Struct, frozen=True, order=True):
    """The endpoints of a cluster as one node has them."""

    of: RoleOf
    node: str


def port_of(service: Service, port: int, protocol: str = "TCP") -> PortSpec | None:
    """Return the spec of a port of *service*, or None."""
    for spec in service.spec.ports:
        if spec.port == port and spec.protocol == protocol:
            return spec
    return None


def otlp_by_grpc(spec: PortSpec) -> bool:
    """Tell whether a port of a collector takes OTLP by gRPC, or else by HTTP.

    What it says of itself counts, then its number and its name.
    """
    if spec.app_protocol:
        return spec.app_protocol in HTTP2_PROTOCOLS
    return spec.port != OTLP_HTTP_PORT and "http" not in (spec.name or "")


@query
def backends(db: Database, port: KernelPort) -> tuple[Backend, ...]:
    """Return the ready endpoints of a Service port, both families, sorted.

    If there is none, those whose nodes nobody hears of: whether that is so because of the nodes or
    because of the API server, nothing better can be asked.
    """
    selecting = xbackend_of(port.service)
    if selecting is not None:
        number = selected_port(db, selecting)
        return tuple(Backend(one, number) for one in sorted(selected_pods(db, selecting)))
    found = {one for _, one in _ready_endpoints(db, port)}
    return tuple(sorted(found or {one for _, one in _unheard_endpoints(db, port)}))


def _ready_endpoints(db: Database, port: KernelPort) -> Iterator[tuple[str, Backend]]:
    """Yield the ready endpoints of a Service port, each with its node, "" if that is not known."""
    for slice_, spec, all_ in _slices(db, port):
        numbers = _numbers(slice_, spec)
        for one in slice_.endpoints:
            if all_ or one.conditions.ready is not False:
                for number in numbers:
                    yield one.node_name, Backend(one.addresses[0], number)


def _unheard_endpoints(db: Database, port: KernelPort) -> Iterator[tuple[str, Backend]]:
    """Yield those that are not ready, but whose pods are, or would be if their nodes were heard of.

    A pod is heard of before its endpoint, so nothing is missing in between.
    """
    for slice_, spec, all_ in _slices(db, port):
        for one in () if all_ else slice_.endpoints:
            if one.conditions.ready is False and _pod_knows_better(db, slice_, one):
                for number in _numbers(slice_, spec):
                    yield one.node_name, Backend(one.addresses[0], number)


def _slices(db: Database, port: KernelPort) -> Iterator[tuple[EndpointSlice, PortSpec, bool]]:
    """Yield the slices of a Service port, each with the port and whether all count as ready."""
    service = db.services.get(port.service)
    spec = port_of(service, port.port, port.protocol) if service is not None else None
    if service is None or spec is None:
        return
    for name in db.slices.bucket("service", port.service):
        slice_ = db.slices.get(name)
        if slice_ is not None and slice_.address_type != "FQDN":
            yield slice_, spec, service.spec.publish_not_ready_addresses


def _numbers(slice_: EndpointSlice, spec: PortSpec) -> list[int]:
    wanted = (spec.name, spec.protocol)
    return [p.port for p in slice_.ports if (p.name, p.protocol) == wanted and p.port is not None]


def _pod_knows_better(db: Database, slice_: EndpointSlice, endpoint: Endpoint) -> bool:
    """Tell whether the pod behind an endpoint that is not ready can be asked all the same.

    Who writes slices by other rules than Kubernetes itself may have reasons of his own.
    """
    target = endpoint.target_ref
    if target is None or target.kind != Pod.kind or endpoint.conditions.terminating:
        return False
    if slice_.metadata.labels.get(MANAGED_BY) != ENDPOINT_SLICE_CONTROLLER:
        return False
    return db.ready_pods.get(NamespacedName(slice_.metadata.namespace, target.name)) is not None


@query
def _by_node(db: Database, port: KernelPort) -> dict[str, tuple[Backend, ...]]:
    """Return node → its ready endpoints of a Service port, sorted; none whose node is unknown.

    Of a node without any, those of which nobody hears.
    """
    ready = _sorted_out(_ready_endpoints(db, port))
    return _sorted_out(_unheard_endpoints(db, port)) | ready


def _sorted_out(endpoints: Iterable[tuple[str, Backend]]) -> dict[str, tuple[Backend, ...]]:
    found: dict[str, set[Backend]] = {}
    for node, one in endpoints:
        if node:
            found.setdefault(node, set()).add(one)
    return {node: tuple(sorted(some)) for node, some in found.items()}


@query
def backends_on(db: Database, at: PortOn) -> tuple[Backend, ...]:
    """Return those of the ready endpoints of a Service port that are on one node, sorted."""
    return _by_node(db, at.port).get(at.node, ())


@query
def nodes_behind(db: Database, name: NamespacedName) -> frozenset[str]:
    """Return the nodes on which some port of a Service has a ready endpoint."""
    service = db.services.get(name)
    ports = service.spec.ports if service is not None else ()
    each = (KernelPort(name, spec.port, spec.protocol) for spec in ports)
    return frozenset(node for port in each for node in _by_node(db, port))


def is_kept(db: Database, name: NamespacedName) -> bool:
    """Tell whether a Service leads pods to endpoints of their own node only.

    Source: core/v1 ServiceSpec.internalTrafficPolicy. A lab is one node.
    """
    if db.settings.reach is not Reach.CLUSTER or not db.services.ever("kept"):
        return False
    service = db.services.get(name)
    return service is not None and service.spec.internal_traffic_policy == "Local"


def reached_on(db: Database, port: KernelPort, node: str) -> Sequence[Backend]:
    """Return the endpoints that a port leads the pods of a node to, or with "" those of all."""
    on_node = bool(node) and is_kept(db, port.service)
    return backends_on(db, PortOn(port, node)) if on_node else backends(db, port)


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


def origin_of(target: ServicePort) -> Origin:
    """Return the object whose endpoints *target* has: a Service, or an XBackend."""
    selecting = xbackend_of(target.service)
    if selecting is not None:
        return Origin.of("XBackend", selecting)
    return Origin.of("Service", target.service)


def one_family(found: Sequence[Backend]) -> Sequence[Backend]:
    """Return the endpoints of one family, as two would count every pod twice: IPv4 if there is."""
    return [one for one in found if ":" not in one.address] or found


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
