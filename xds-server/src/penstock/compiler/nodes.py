"""Queries about nodes: who they are to others, and which of them answers for an address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from penstock.compiler.addresses import peer_addresses
from penstock.compiler.claims import assigned
from penstock.compiler.database import ClusterNode, Database, Peer
from penstock.compiler.endpoints import nodes_behind
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.generated_services import can_be_inside
from penstock.compiler.indexes import ALL
from penstock.compiler.settings import Addressing, Reach
from penstock.compiler.usable_secrets import NOW
from penstock.core.kinds import Service
from penstock.core.nodes import Node
from penstock.gatewayapi.resources import Gateway
from penstock.incremental.query import query
from penstock.ir.policy import Reserved
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.origins import encode_origin
from penstock.xds.resource import Resource, encode_resource

EVERY_NODE = ""
"""In place of the name of a node: all of them."""
COMING_BACK = 60
"""Seconds for which nodes that are missed are waited for, from when the first one is back."""
NOBODY_SERVES = "no node is Ready and runs Envoy"


class Place(msgspec.Struct, frozen=True, order=True):
    """An address that a node answers for."""

    node: str
    address: str


class Answered(msgspec.Struct, frozen=True, order=True):
    """An address of the pool, the node that answers for it, and who is reached there."""

    place: Place
    by: ObjectRef


class AddressOf(msgspec.Struct, frozen=True, order=True):
    """An address of the pool that a Service has."""

    address: str
    service: NamespacedName


def peer_name(node: str) -> str:
    """Return the name under which the addresses of a node are known."""
    return f"node/{node}"


def set_node(db: Database, name: str, node: Node | None) -> None:
    """Take over what matters of a node; None if it is gone."""
    if node is None:
        db.nodes.remove(name)
        db.peers.remove(peer_name(name))
        return
    addresses = node.internal_addresses
    db.nodes.set(name, ClusterNode(ready=node.ready, since=node.since, addresses=addresses))
    peer = Peer(
        origin=Origin.of("Node", NamespacedName("", name)),
        node=name,
        addresses=addresses,
        identity=int(Reserved.REMOTE_NODE),
    )
    db.peers.set(peer_name(name), peer)


@query
def node_peer(db: Database, name: str) -> Resource | None:
    """Return the node.v1.Peer of a node or of a pod of Envoy; None without addresses."""
    peer, addresses = db.peers.get(name), peer_addresses(db, name)
    if peer is None or not addresses:
        return None
    made = node_pb2.Peer(addresses=addresses, identity=peer.identity)
    return encode_resource(types.PEER, name, made, [peer.origin])


@query
def envoy_nodes(db: Database, _: None) -> tuple[str, ...]:
    """Return the nodes that Envoy runs on, sorted.

    Where no Envoy is known at all, it is not run by pods of ours, and may be on every node.
    """
    pods = db.peers.bucket("identity", int(Reserved.INGRESS))
    running = {peer.node for peer in map(db.peers.get, pods) if peer is not None}
    every = db.nodes.bucket("all", ALL)
    return tuple(sorted(name for name in every if not running or name in running))


@query
def serving_nodes(db: Database, _: None) -> tuple[str, ...]:
    """Return the nodes that can answer for addresses: Ready, and Envoy runs there; sorted.

    When no node is Ready, it is more likely that nobody hears of them than that all are gone: then
    they stay what they were. So do those that are not Ready again while the others have just become
    it, or their addresses would move away and back.
    """
    able = envoy_nodes(db, None)
    ready = tuple(name for name in able if is_ready(db, name))
    return able if not ready or _come_back(db, None) else ready


@query
def _come_back(db: Database, _: None) -> bool:
    """Tell whether every node that is Ready has become it a moment ago."""
    nodes = filter(None, map(db.nodes.get, envoy_nodes(db, None)))
    first = min((one.since for one in nodes if one.ready), default=0)
    now = db.time.get(NOW)  # told every minute
    return now is not None and now < first + COMING_BACK


@query
def somebody_serves(db: Database, _: None) -> bool:
    """Return whether a node that is Ready can answer for addresses."""
    return any(is_ready(db, name) for name in serving_nodes(db, None))


@query
def is_ready(db: Database, name: str) -> bool:
    """Return whether a node is Ready."""
    node = db.nodes.get(name)
    return node is not None and node.ready


def is_kept_outside(db: Database, name: NamespacedName) -> bool:
    """Tell whether a LoadBalancer leads to endpoints of the node that answers for it only.

    Source: core/v1 ServiceSpec.externalTrafficPolicy.
    """
    service = db.services.get(name)
    return service is not None and service.spec.external_traffic_policy == "Local"


@query
def owner(db: Database, address: str) -> str | None:
    """Return the node that answers for an address of the pool; None if there is none.

    Rendezvous hashing: when a node goes, only its addresses move.
    """
    return _first_for(address, serving_nodes(db, None))


@query
def owner_beside(db: Database, key: AddressOf) -> str | None:
    """Return the node that answers for an address of a Service that is kept on its nodes.

    It has a ready endpoint of the Service; None if no node that serves has one.
    """
    beside = nodes_behind(db, key.service)
    return _first_for(key.address, (one for one in serving_nodes(db, None) if one in beside))


def _first_for(address: str, nodes: Iterable[str]) -> str | None:
    return max(nodes, key=lambda node: _weight(address, node), default=None)


def _weight(address: str, node: str) -> bytes:
    return hashlib.sha256(f"{address}\0{node}".encode()).digest()


@query
def envoy_pods(db: Database, _: None) -> tuple[Place, ...]:
    """Return the addresses of the pods in which Envoy runs on nodes that serve, sorted."""
    serving = frozenset(serving_nodes(db, None))
    names = db.peers.bucket("identity", int(Reserved.INGRESS))
    pods = {name: peer for name in names if (peer := db.peers.get(name)) is not None}
    return tuple(
        sorted(
            Place(peer.node, address)
            for name, peer in pods.items()
            if peer.node in serving
            for address in peer_addresses(db, name)
        )
    )


@query
def places(db: Database, ref: ObjectRef) -> tuple[Place, ...]:
    """Return where a Gateway or a LoadBalancer of a cluster is reached, sorted."""
    settings = db.settings
    if settings.reach is not Reach.CLUSTER:
        return ()
    if ref.kind == Gateway.kind and is_inside(db, ref.key):
        return envoy_pods(db, None) if can_be_inside(db, ref.key) else ()
    if settings.addressing is not Addressing.POOL:
        return _on_every_node(db, ref)
    addresses = assigned(db, ref).addresses
    if ref.kind == Service.kind and is_kept_outside(db, ref.key):
        found = [(owner_beside(db, AddressOf(one, ref.key)), one) for one in addresses]
    else:
        found = [(owner(db, one), one) for one in addresses]
    return tuple(sorted(Place(node, address) for node, address in found if node is not None))


def _on_every_node(db: Database, ref: ObjectRef) -> tuple[Place, ...]:
    if ref.kind != "Gateway":
        return ()
    found: list[Place] = []
    for name in serving_nodes(db, None):
        node = db.nodes.get(name)
        found += (Place(name, address) for address in (node.addresses if node is not None else ()))
    return tuple(sorted(found))


@query
def node_address(_db: Database, key: Answered) -> Resource:
    """Return the node.v1.Address by which a node answers for an address of the pool."""
    origin = Origin.of(key.by.kind, key.by.key)
    made = node_pb2.Address(address=key.place.address, origins=[encode_origin(origin)])
    return encode_resource(types.ADDRESS, key.place.address, made, [origin])
