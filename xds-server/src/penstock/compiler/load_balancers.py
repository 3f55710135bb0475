"""Queries about Services of type LoadBalancer: the listeners on the nodes that answer for them.

Their connections come to the pods from Envoy's own address, as those of Gateways do: the servers'
policy sees INGRESS. At the pods the kernel judges them, or hands them to the pod's own listener.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.compiler.claims import LOAD_BALANCER_CLASS, Assignment, assigned, is_balanced
from penstock.compiler.database import Database
from penstock.compiler.endpoints import (
    Backend,
    KernelPort,
    PortOn,
    backends,
    backends_on,
    one_family,
)
from penstock.compiler.nodes import (
    NOBODY_SERVES,
    is_kept_outside,
    places,
    somebody_serves,
)
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.core.kinds import Service
from penstock.core.kinds import ServicePort as PortSpec
from penstock.core.ranges import AddressRanges
from penstock.envoy import cluster as clusters
from penstock.envoy.endpoint import load_assignment
from penstock.envoy.load_balancer import BalancedListener, balanced, balanced_datagrams
from penstock.gatewayapi.status import ADDRESS_NOT_ASSIGNED, ADDRESS_NOT_USABLE
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource

ADDRESS_ASSIGNED = "penstock.dev/AddressAssigned"
"""Type of the condition of Services that are ours to balance."""
NO_LOCAL_ENDPOINTS = "NoLocalEndpoints"
_NO_LOCAL_ENDPOINTS = (
    "externalTrafficPolicy is Local, and no node that is Ready and runs Envoy has a ready "
    "endpoint: the address is announced nowhere"
)
_NOT_THE_CLIENTS = (
    "externalTrafficPolicy is Local: a node with a ready endpoint answers, and sends to its own "
    "endpoints only; they see the address of Envoy, not the client's"
)


def name_of(port: KernelPort) -> str:
    """Return the last part of the names of a port's resources."""
    ending = "" if port.protocol == "TCP" else f"/{port.protocol.lower()}"
    return f"{port.service}/{port.port}{ending}"


def is_served(service: Service, protocol: str) -> bool:
    """Return whether the ports of a LoadBalancer with this protocol are served.

    Sources can be told apart for connections only, so datagrams are not let in where they have to
    be.
    """
    return protocol == "TCP" or (protocol == "UDP" and not service.spec.load_balancer_source_ranges)


@query
def balanced_listener(db: Database, key: PortOn) -> Resource | None:
    """Return the Envoy listener of a port of a LoadBalancer for one node."""
    port = key.port
    service = db.services.get(port.service)
    if service is None:
        return None
    found = [one.address for one in places(db, service.ref) if one.node == key.node]
    if not found:
        return None
    cluster = f"lb|{name_of(port)}"
    listener = BalancedListener(
        name=f"lb/{name_of(port)}",
        cluster=cluster,
        addresses=tuple((one, port.port, db.settings.host_netns) for one in found),
        sources=service.spec.load_balancer_source_ranges,
        by_source=bool(service.spec.stay_seconds),
    )
    made = balanced(listener) if port.protocol == "TCP" else balanced_datagrams(listener)
    needs = [ResourceName(types.CLUSTER, cluster), ResourceName(types.ENDPOINTS, cluster)]
    return encode_resource(types.LISTENER, made.name, made, [_origin(port)], needs)


@query
def balanced_cluster(db: Database, port: KernelPort) -> Resource:
    """Return the Cluster of a port of a LoadBalancer."""
    service = db.services.get(port.service)
    made = clusters.balanced(
        f"lb|{name_of(port)}",
        node_netns=db.settings.dial_netns,
        by_source=service is not None and bool(service.spec.stay_seconds),
    )
    return encode_resource(types.CLUSTER, made.name, made, [_origin(port)])


@query
def balanced_assignment(db: Database, port: KernelPort) -> Resource:
    """Return the ClusterLoadAssignment of a port of a LoadBalancer."""
    return _assignment(port, backends(db, port))


@query
def balanced_assignment_on(db: Database, at: PortOn) -> Resource:
    """Return the ClusterLoadAssignment of a port of a LoadBalancer that is kept on its node."""
    return _assignment(at.port, backends_on(db, at))


def _assignment(port: KernelPort, to: Sequence[Backend]) -> Resource:
    name, found = f"lb|{name_of(port)}", one_family(to)
    made = load_assignment(name, [(one.address, one.port) for one in found])
    return encode_resource(types.ENDPOINTS, name, made, [_origin(port)])


@query
def balanced_status(db: Database, name: NamespacedName) -> dict[str, Any] | None:
    """Return what is ours of the status of a Service; None if others write it.

    Of one that is no LoadBalancer of ours any more, what we wrote is taken away.
    """
    settings = db.settings
    service = db.services.get(name)
    if service is None or settings.reach is not Reach.CLUSTER:
        return None
    if settings.addressing is not Addressing.POOL:
        # Since a moment: nobody answers at what came from the pool.
        return {"loadBalancer": {}, "conditions": []} if _is_told(service) else None
    if is_balanced(service):
        # Its addresses stay its own while no node can answer for them.
        found = assigned(db, service.ref)
        entries = [_ingress(service, one) for one in found.addresses]
        told = _condition(service, found, why=_why_nowhere(db, service))
        return {"loadBalancer": {"ingress": entries} if entries else {}, "conditions": [told]}
    return _taken_back(service, settings) or None


def _taken_back(service: Service, settings: Settings) -> dict[str, Any]:
    """Return what becomes of what we wrote when a Service was ours."""
    pool = AddressRanges(settings.gateway_pool)
    left = [one.ip for one in service.status.load_balancer.ingress]
    of_nobody_else = service.spec.load_balancer_class in ("", LOAD_BALANCER_CLASS)
    taken: dict[str, Any] = {}
    if of_nobody_else and left and all(ip in pool for ip in left):
        taken["loadBalancer"] = {}
    if _is_told(service):
        taken["conditions"] = []
    return taken


def _is_told(service: Service) -> bool:
    """Return whether we said what address a Service has."""
    return any(one.type == ADDRESS_ASSIGNED for one in service.status.conditions)


def _why_nowhere(db: Database, service: Service) -> tuple[str, str]:
    """Return (reason, message) if no node answers for a LoadBalancer whatever its address is."""
    if not somebody_serves(db, None):
        return ADDRESS_NOT_ASSIGNED, NOBODY_SERVES
    if not is_kept_outside(db, service.key) or places(db, service.ref):
        return "", ""
    return NO_LOCAL_ENDPOINTS, _NO_LOCAL_ENDPOINTS


def _condition(service: Service, found: Assignment, why: tuple[str, str]) -> dict[str, Any]:
    """Return whether a LoadBalancer has its address, or why not, as it is written."""
    reason, text = why
    if found.refused:
        reason = ADDRESS_NOT_USABLE
        text = "; ".join(f"{address} {why_not}" for address, why_not in found.refused)
    elif found.lacking:
        reason, text = ADDRESS_NOT_ASSIGNED, found.lacking
    generation, status = service.metadata.generation, not reason
    if status and service.spec.external_traffic_policy == "Local":
        text = _NOT_THE_CLIENTS
    told = {
        "type": ADDRESS_ASSIGNED,
        "status": str(status),
        "reason": reason or "Assigned",
        "message": text,
    }
    # A server leaves a zero out.
    return told | ({"observedGeneration": generation} if generation else {})


def _ingress(service: Service, address: str) -> dict[str, Any]:
    """Return an entry of status.loadBalancer.ingress, with everything that the server defaults.

    Source: core/v1 LoadBalancerIngress; "VIP" says that pods need not go through the node.
    """
    entry: dict[str, Any] = {"ip": address, "ipMode": "VIP"}
    if all(is_served(service, port.protocol) for port in service.spec.ports):
        return entry
    return entry | {"ports": [_port(service, port) for port in service.spec.ports]}


def _port(service: Service, port: PortSpec) -> dict[str, Any]:
    error = "" if is_served(service, port.protocol) else "penstock.dev/ProtocolNotServed"
    told = {"port": port.port, "protocol": port.protocol}
    return told | ({"error": error} if error else {})


def _origin(port: KernelPort) -> Origin:
    return Origin.of("Service", port.service)
