"""Flows of what the kernel refused or redirected, from the events of the datapath."""

from __future__ import annotations

import msgspec

from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import Flow, FlowVerdict, Peer
from penstock.agent.lattice import Match
from penstock.bpf.abi import EventKind, Reason
from penstock.bpf.model import BpfEvent
from penstock.ir.policy import TCP, Direction, Verdict
from penstock.meta.names import Origin

REDIRECTS = frozenset({EventKind.REDIRECTED, EventKind.INBOUND_REDIRECTED})
FAILURES = frozenset(
    {
        Reason.NO_BACKEND,
        Reason.NO_LISTENER,
        Reason.NO_MEMORY,
        Reason.NOWHERE,
        Reason.UNREADABLE,
    }
)
"""Reasons that are not the doing of a policy."""
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}

_TEXTS = {
    Reason.NONE: "",
    Reason.DENY_ENTRY: "denied by a rule",
    Reason.DEFAULT_DENY: "no rule allows it",
    Reason.NO_POLICY: "the policy of the identity is not known on this node yet",
    Reason.POLICY_CHANGING: "the policy changed in this moment",
    Reason.NO_BACKEND: "the Service has no backend",
    Reason.BACKENDS_DENIED: "no rule allows any backend of the Service",
    Reason.NO_LISTENER: "Envoy is away and the rules look into requests",
    Reason.UNKNOWN_POD: "the pod is not registered",
    Reason.PROXY_PORT: "the ports of Envoy are for Envoy",
    Reason.NOT_PROXIABLE: "the rules look into requests, and the protocol has none",
    Reason.UNREADABLE: "the packet cannot be read",
    Reason.NO_MEMORY: "the kernel has no memory",
    Reason.FOREIGN_ADDRESS: "the pod used an address that is not its own",
    Reason.NOWHERE: "the backend that the route chose is not there",
}


def flow_of_event(event: BpfEvent, node: str, datapath: NodeDatapath, offset: float) -> Flow:
    """Join one event with what is known of its ends.

    Args:
        event: what the kernel reported.
        node: name of this node.
        datapath: knows workloads and policies.
        offset: wall clock minus CLOCK_MONOTONIC, seconds.
    """
    asked = str(event.requested)
    source = _peer(datapath, str(event.source), event.source_port, event.source_identity)
    target = _peer(
        datapath, str(event.destination), event.destination_port, event.destination_identity
    )
    service = datapath.service_at(asked, event.requested_port)
    return Flow(
        time=event.timestamp_ns / 1e9 + offset,
        node=node,
        direction=event.direction,
        verdict=_verdict(event),
        source=source,
        destination=msgspec.structs.replace(target, service=service),
        protocol=_PROTOCOLS.get(event.protocol, str(event.protocol)),
        reason=_TEXTS[event.reason],
        policies=tuple(map(str, _decided(event, datapath))),
    )


def _verdict(event: BpfEvent) -> FlowVerdict:
    if event.kind in REDIRECTS:
        return FlowVerdict.REDIRECTED
    if event.kind is EventKind.CONNECT_ROUTED:
        return FlowVerdict.FORWARDED
    return FlowVerdict.ERROR if event.reason in FAILURES else FlowVerdict.DENIED


def _peer(datapath: NodeDatapath, address: str, port: int, identity: int) -> Peer:
    workload = datapath.workload_at(address)
    if workload is None:
        return Peer(identity=identity, address=address, port=port)
    return Peer(
        identity=identity or workload.identity,
        namespace=workload.namespace,
        pod=workload.name,
        address=address,
        port=port,
        labels=workload.labels,
    )


def _decided(event: BpfEvent, datapath: NodeDatapath) -> tuple[Origin, ...]:
    """Return the rules or policies that made the kernel's decision."""
    if event.reason is Reason.BACKENDS_DENIED:
        return _backends_denied(event, datapath)
    if event.reason not in {Reason.DENY_ENTRY, Reason.DEFAULT_DENY}:
        return ()
    outward = event.direction is Direction.EGRESS
    ends = event.source_identity, event.destination_identity
    subject, peer = ends if outward else ends[::-1]
    policy = datapath.policies.get(subject)
    if policy is None:
        return ()
    if event.reason is Reason.DEFAULT_DENY:
        return policy.enforced_by(event.direction)
    return policy.decided(Match(event.direction, peer, event.destination_port, event.protocol))


def _backends_denied(event: BpfEvent, datapath: NodeDatapath) -> tuple[Origin, ...]:
    """Return what denies the client each backend of the Service that it asked for."""
    found: dict[Origin, None] = {}
    for service in datapath.services.values():
        if str(event.requested) not in service.addresses or service.port != event.requested_port:
            continue
        for backend in service.backends:
            server = datapath.identity_of(backend.address)
            for direction, subject, peer in (
                (Direction.EGRESS, event.source_identity, server),
                (Direction.INGRESS, server, event.source_identity),
            ):
                policy = datapath.policies.get(subject)
                match = Match(direction, peer, backend.port, TCP)
                if policy is not None and policy.verdicts.verdict(match) is Verdict.DENY:
                    found.update(dict.fromkeys(policy.decided(match)))
    return tuple(found)
