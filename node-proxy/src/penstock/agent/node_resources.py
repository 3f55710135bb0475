"""The node.v1 resources as the agent uses them.

Source: penstock/node/v1/node.proto. Addresses are canonical here, so that they can be compared.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from penstock.agent.lattice import IdentityPolicy, Match, strictest
from penstock.ir.policy import Direction, Verdict
from penstock.meta.limits import LONGEST_STAY
from penstock.meta.names import Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.origins import decode_origin
from penstock.xds.resource import Resource


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of the cluster, as `penstock.node.v1.Workload`."""

    uid: str
    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]
    identity: int
    labels: dict[str, str]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of the cluster that are no Workload's, as `penstock.node.v1.Peer`."""

    addresses: tuple[str, ...]
    identity: int


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address that this node answers for, as `penstock.node.v1.Address`."""

    address: str


class Backend(msgspec.Struct, frozen=True):
    """An endpoint of a Service."""

    address: str
    port: int
    weight: int


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A Service port, as `penstock.node.v1.Service`."""

    namespace: str
    name: str
    addresses: tuple[str, ...]
    port: int
    protocol: int
    proxy: bool
    backends: tuple[Backend, ...]
    clients: str = ""
    """Namespace of the pods that it is for; "" is for all that have none of their own."""
    routed: bool = False
    """A route chose the backends."""
    stay_seconds: int = 0
    """So long a client stays at its backend after each connection; 0 is not at all."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts of one identity and where they come from."""

    verdicts: IdentityPolicy
    origins: Mapping[Match, tuple[Origin, ...]]
    ingress_enforced_by: tuple[Origin, ...]
    egress_enforced_by: tuple[Origin, ...]

    def decided(self, match: Match) -> tuple[Origin, ...]:
        """Return the origins of the entries that give the verdict on *match*."""
        verdict = self.verdicts.verdict(match)
        found: list[Origin] = []
        for peer in (match.peer, 0):
            for port, protocol in ((match.port, match.protocol), (0, match.protocol), (0, 0)):
                key = Match(match.direction, peer, port, protocol)
                if self.verdicts.entries.get(key) is verdict:
                    found += (o for o in self.origins.get(key, ()) if o not in found)
        return tuple(found) or self.enforced_by(match.direction)

    def enforced_by(self, direction: Direction) -> tuple[Origin, ...]:
        """Return the policies that put *direction* in default deny."""
        ingress = direction is Direction.INGRESS
        return self.ingress_enforced_by if ingress else self.egress_enforced_by


Content = Peer | Workload | Policy | Service | Address


def canonical(address: str) -> str:
    """Return the one spelling of an address; an IPv4-mapped address is the IPv4 address."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def decode(resource: Resource) -> Content | None:
    """Return the content of a resource of our own types; None for Envoy's.

    Raises:
        google.protobuf.message.DecodeError: the bytes are damaged.
        ValueError: an address or a verdict is none.
    """
    if resource.type_url == types.PEER:
        return peer_of(node_pb2.Peer.FromString(resource.body))
    if resource.type_url == types.ADDRESS:
        sent = node_pb2.Address.FromString(resource.body)
        return Address(address=canonical(sent.address))
    if resource.type_url == types.WORKLOAD:
        return workload_of(node_pb2.Workload.FromString(resource.body))
    if resource.type_url == types.POLICY:
        return policy_of(node_pb2.Policy.FromString(resource.body))
    if resource.type_url == types.SERVICE:
        return service_of(node_pb2.Service.FromString(resource.body))
    return None


def peer_of(sent: node_pb2.Peer) -> Peer:
    """Decode a Peer."""
    return Peer(addresses=tuple(map(canonical, sent.addresses)), identity=sent.identity)


def workload_of(sent: node_pb2.Workload) -> Workload:
    """Decode a Workload."""
    return Workload(
        uid=sent.uid,
        namespace=sent.namespace,
        name=sent.name,
        node=sent.node,
        addresses=tuple(map(canonical, sent.addresses)),
        identity=sent.identity,
        labels=dict(sent.labels),
    )


def policy_of(sent: node_pb2.Policy) -> Policy:
    """Decode a Policy; of entries for the same match the strictest holds."""
    verdicts: dict[Match, Verdict] = {}
    origins: dict[Match, tuple[Origin, ...]] = {}
    for entry in sent.entries:
        match = Match(Direction(entry.direction), entry.peer, entry.port, entry.protocol)
        verdict = Verdict(entry.verdict)
        known = verdicts.get(match)
        if known is None or strictest((known, verdict)) is not known:
            verdicts[match], origins[match] = verdict, ()
        if verdicts[match] is verdict:
            origins[match] += tuple(map(decode_origin, entry.origins))
    return Policy(
        verdicts=IdentityPolicy(
            default_ingress=_default(sent.default_ingress),
            default_egress=_default(sent.default_egress),
            entries=verdicts,
        ),
        origins=origins,
        ingress_enforced_by=tuple(map(decode_origin, sent.ingress_enforced_by)),
        egress_enforced_by=tuple(map(decode_origin, sent.egress_enforced_by)),
    )


def service_of(sent: node_pb2.Service) -> Service:
    """Decode a Service."""
    return Service(
        namespace=sent.namespace,
        name=sent.name,
        addresses=tuple(map(canonical, sent.addresses)),
        port=sent.port,
        protocol=sent.protocol,
        proxy=sent.proxy,
        backends=tuple(Backend(canonical(b.address), b.port, b.weight) for b in sent.backends),
        clients=sent.clients,
        routed=sent.routed,
        stay_seconds=min(sent.stay_seconds, LONGEST_STAY),
    )


def _default(verdict: int) -> Verdict:
    """Return the default of a direction; one that was not set is DENY."""
    return Verdict.ALLOW if verdict == Verdict.ALLOW else Verdict.DENY
