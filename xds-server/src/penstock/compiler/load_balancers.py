"""Queries about Services of type LoadBalancer: the listeners on the nodes that answer for them.

Their connections come to the pods from Envoy's own address, as those of Gateways do: the servers'
policy sees INGRESS. At the pods the kernel judges them, or hands them to the pod's own listener.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.compiler.claims import LOAD_BALANCER_CLASS, assigned, is_balanced
from penstock.compiler.database import Database
from penstock.compiler.nodes import places
from penstock.compiler.services import port_of
from penstock.compiler.settings import Addressing, Reach
from penstock.core.kinds import Service
from penstock.core.ranges import AddressRanges
from penstock.envoy import cluster as clusters
from penstock.envoy.cluster import Role, cluster_name
from penstock.envoy.load_balancer import BalancedListener, balanced
from penstock.incremental.query import query
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource


class BalancedOn(msgspec.Struct, frozen=True, order=True):
    """A port of a LoadBalancer on one of the nodes that answer for it."""

    target: ServicePort
    node: str


@query
def balanced_listener(db: Database, key: BalancedOn) -> Resource | None:
    """Return the Envoy listener of a port of a LoadBalancer for one node."""
    target = key.target
    service = db.services.get(target.service)
    if service is None:
        return None
    found = [one.address for one in places(db, service.ref) if one.node == key.node]
    if not found:
        return None
    cluster = cluster_name(Role.LOAD_BALANCER, target)
    made = balanced(
        BalancedListener(
            name=f"lb/{target.service}/{target.port}",
            cluster=cluster,
            addresses=tuple((one, target.port, db.settings.host_netns) for one in found),
            sources=service.spec.load_balancer_source_ranges,
        )
    )
    needs = [ResourceName(types.CLUSTER, cluster), ResourceName(types.ENDPOINTS, cluster)]
    return encode_resource(types.LISTENER, made.name, made, [_origin(target)], needs)


@query
def balanced_cluster(db: Database, target: ServicePort) -> Resource | None:
    """Return the Cluster of a port of a LoadBalancer."""
    service = db.services.get(target.service)
    if service is None or port_of(service, target.port) is None:
        return None
    made = clusters.balanced(target, node_netns=db.settings.dial_netns)
    return encode_resource(types.CLUSTER, made.name, made, [_origin(target)])


@query
def balanced_status(db: Database, name: NamespacedName) -> dict[str, Any] | None:
    """Return status.loadBalancer of a Service; None if others write it.

    Of one that is no LoadBalancer of ours any more, an address of ours is taken away.
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
        # It stays its own while no node can answer for it.
        found = assigned(db, service.ref).addresses
        entries = [_ingress(service, one) for one in found]
        return {"loadBalancer": {"ingress": entries} if entries else {}}
    pool = AddressRanges(settings.gateway_pool)
    left = [one.ip for one in service.status.load_balancer.ingress]
    ours = service.spec.load_balancer_class in ("", LOAD_BALANCER_CLASS)
    return {"loadBalancer": {}} if ours and left and all(ip in pool for ip in left) else None


def _ingress(service: Service, address: str) -> dict[str, Any]:
    """Return an entry of status.loadBalancer.ingress, with everything that the server defaults.

    Source: core/v1 LoadBalancerIngress; "VIP" says that pods need not go through the node.
    """
    entry: dict[str, Any] = {"ip": address, "ipMode": "VIP"}
    if all(port.protocol == "TCP" for port in service.spec.ports):
        return entry
    ports = [_port(port.port, port.protocol) for port in service.spec.ports]
    return entry | {"ports": ports}


def _port(port: int, protocol: str) -> dict[str, Any]:
    served = protocol == "TCP"
    error = {} if served else {"error": "penstock.dev/ProtocolNotServed"}
    return {"port": port, "protocol": protocol} | error


def _origin(target: ServicePort) -> Origin:
    return Origin.of("Service", target.service)
