"""Queries about the endpoints of Services, and of XBackends that select pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.selected import selected_pods, selected_port
from penstock.compiler.settings import Reach
from penstock.core.kinds import Endpoint, EndpointSlice, Service
from penstock.core.kinds import ServicePort as PortSpec
from penstock.core.pods import Pod
from penstock.incremental.query import query
from penstock.ir.external import xbackend_of
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, Origin

MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
ENDPOINT_SLICE_CONTROLLER = "endpointslice-controller.k8s.io"
"""Label and value of slices whose endpoints are ready when their pods are.
Source: discovery.k8s.io/v1, well-known labels."""


class Backend(msgspec.Struct, frozen=True, order=True):
    """One ready endpoint of a Service port."""

    address: str
    port: int


class KernelPort(msgspec.Struct, frozen=True, order=True):
    """A Service port of any protocol."""

    service: NamespacedName
    port: int
    protocol: str


class PortOn(msgspec.Struct, frozen=True, order=True):
    """A Service port as one node has it."""

    port: KernelPort
    node: str


def port_of(service: Service, port: int, protocol: str = "TCP") -> PortSpec | None:
    """Return the spec of a port of *service*, or None."""
    for spec in service.spec.ports:
        if spec.port == port and spec.protocol == protocol:
            return spec
    return None


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


def origin_of(target: ServicePort) -> Origin:
    """Return the object whose endpoints *target* has: a Service, or an XBackend."""
    selecting = xbackend_of(target.service)
    if selecting is not None:
        return Origin.of("XBackend", selecting)
    return Origin.of("Service", target.service)


def one_family(found: Sequence[Backend]) -> Sequence[Backend]:
    """Return the endpoints of one family, as two would count every pod twice: IPv4 if there is."""
    return [one for one in found if ":" not in one.address] or found
