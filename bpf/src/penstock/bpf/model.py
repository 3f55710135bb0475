"""What the agent says to the datapath, and hears from it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import msgspec

from penstock.bpf.abi import EventKind, EventRecord, IPAddress, Reason
from penstock.ir.policy import Direction, Verdict


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of this node."""

    uid: str
    """At most 63 bytes of UTF-8."""
    cookie: int
    """Of its network namespace, see `netns_cookie`."""
    identity: int
    policed: bool = True
    """False: neither judged nor redirected, but Services are served."""
    namespace: str = ""
    """Services that are made for its pods go before those for all; "" has none."""
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None


class PolicyEntry(msgspec.Struct, frozen=True, order=True):
    """One verdict for (direction, peer, port, protocol); zeros are wildcards."""

    direction: Direction
    peer: int
    port: int
    """Of the server's pod. With protocol 0 it means TCP, UDP and SCTP."""
    protocol: int
    verdict: Verdict


class PolicyEntries(msgspec.Struct, frozen=True, kw_only=True):
    """L3/L4 policy of all pods with one identity."""

    default_ingress: Verdict
    """ALLOW or DENY."""
    default_egress: Verdict
    entries: tuple[PolicyEntry, ...] = ()


class Backend(msgspec.Struct, frozen=True, order=True):
    """One endpoint of a Service."""

    address: IPAddress
    port: int
    """0: who is led there is refused."""
    weight: int
    """Share of connections, 0 to 1_000_000; 0 gets none."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a Service; each address gets the backends of its own family."""

    addresses: tuple[IPAddress, ...]
    port: int
    protocol: int
    proxy: bool
    """TCP only: clients go to the egress listener, Envoy balances."""
    backends: tuple[Backend, ...]
    clients: str = ""
    """Namespace of the pods that it is for; "" is for all that have none of their own."""
    routed: bool = False
    """A route chose the backends: connections are reported."""
    stay_seconds: int = 0
    """So long a client stays at its backend after a connection, below 2^24; 0: not at all."""


class BpfEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One decision that the kernel reports."""

    kind: EventKind
    reason: Reason
    direction: Direction
    """Seen from the pod that was judged."""
    protocol: int
    source: IPAddress
    destination: IPAddress
    """What was judged: a backend where one was chosen."""
    requested: IPAddress
    """What the process asked for, such as a virtual IP."""
    source_port: int
    """0 where the kernel has not chosen it yet."""
    destination_port: int
    requested_port: int
    source_identity: int
    destination_identity: int
    netns_cookie: int
    """Of the judged pod; 0 if it is not known."""
    timestamp_ns: int
    """CLOCK_MONOTONIC."""
    pid: int
    """0 for packets."""
    comm: str
    """Name of the calling thread; "" for packets."""


def decode_event(record: bytes) -> BpfEvent:
    """Return the event of one ring buffer record.

    Raises:
        ValueError: the record is too short, or says what this version does not know.
    """
    raw = EventRecord.from_buffer_copy(record)
    return BpfEvent(
        kind=EventKind(raw.kind),
        reason=Reason(raw.reason),
        direction=Direction(raw.direction),
        protocol=raw.protocol,
        source=raw.source.ip,
        destination=raw.destination.ip,
        requested=raw.requested.ip,
        source_port=raw.source_port,
        destination_port=raw.destination_port,
        requested_port=raw.requested_port,
        source_identity=raw.source_identity,
        destination_identity=raw.destination_identity,
        netns_cookie=raw.netns_cookie,
        timestamp_ns=raw.timestamp_ns,
        pid=raw.pid,
        comm=raw.comm.decode(errors="replace"),
    )
