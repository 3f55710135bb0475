"""Queries about Services of type LoadBalancer: the listeners on the nodes that answer for them.

Their connections come to the pods from Envoy's own address, as those of Gateways do: the servers'
policy sees INGRESS. At the pods the kernel judges them, or hands them to the pod's own listener.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.compiler.claims import LOAD_BALANCER_CLASS, Assignment, assigned, is_balanced
from penstock.compiler.database import Database
from penstock.compiler.nodes import NOBODY_SERVES, places, somebody_serves
from penstock.compiler.services import KernelPort, backends, one_family
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


class BalancedOn(msgspec.Struct, frozen=True, order=True):
    """A port of a LoadBalancer on one of the nodes that answer for it."""

    port: KernelPort
    node: str


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
def balanced_listener(db: Database, key: BalancedOn) -> Resource | None:
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
    )
    made = balanced(listener) if port.protocol == "TCP" else balanced_datagrams(listener)
    needs = [ResourceName(types.CLUSTER, cluster), ResourceName(types.ENDPOINTS, cluster)]
    return encode_resource(types.LISTENER, made.name, made, [_origin(port)], needs)


@query
def balanced_cluster(db: Database, port: KernelPort) -> Resource:
    """Return the Cluster of a port of a LoadBalancer."""
    made = clusters.balanced(f"lb|{name_of(port)}", node_netns=db.settings.dial_netns)
    return encode_resource(types.CLUSTER, made.name, made, [_origin(port)])


@query
def balanced_assignment(db: Database, port: KernelPort) -> Resource:
    """Return the ClusterLoadAssignment of a port of a LoadBalancer."""
    found = one_family(backends(db, port))
    name = f"lb|{name_of(port)}"
    made = load_assignment(name, [(one.address, one.port) for one in found])
    return encode_resource(types.ENDPOINTS, name, made, [_origin(port)])


@query
def balanced_status(db: Database, name: NamespacedName) -> dict[str, Any] | None:
    """Return what is ours of the status of a Service; None if others write it.

    Of one that is no LoadBalancer of ours any more, what we wrote is taken away.
    """
    settings = db.settings
    service = db.services.get(name)
    if (
        service is None
        or settings.reach is not Reach.CLUSTER
        or settings.addressing is not Addressing.POOL
    ):
        return None
    if is_balanced(service):
        # Its addresses stay its own while no node can answer for them.
        found = assigned(db, service.ref)
        entries = [_ingress(service, one) for one in found.addresses]
        told = _condition(service, found, served=somebody_serves(db, None))
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
    if any(one.type == ADDRESS_ASSIGNED for one in service.status.conditions):
        taken["conditions"] = []
    return taken


def _condition(service: Service, found: Assignment, *, served: bool) -> dict[str, Any]:
    """Return whether a LoadBalancer has its address, or why not, as it is written."""
    reason, text = "Assigned", ""
    if found.refused:
        reason = ADDRESS_NOT_USABLE
        text = "; ".join(f"{address} {why}" for address, why in found.refused)
    elif found.lacking or not served:
        reason, text = ADDRESS_NOT_ASSIGNED, found.lacking or NOBODY_SERVES
    generation = service.metadata.generation
    told = {"type": ADDRESS_ASSIGNED, "status": str(not text), "reason": reason, "message": text}
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
