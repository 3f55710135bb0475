"""Policy of endpoints: what CiliumNetworkPolicies become for one identity."""

from __future__ import annotations

import enum

import msgspec

from penstock.meta.names import Origin


class Direction(enum.IntEnum):
    """As in `penstock.node.v1.Direction`."""

    INGRESS = 0
    EGRESS = 1


class Verdict(enum.IntEnum):
    """As in `penstock.node.v1.Verdict`. On one connection DENY beats PROXY beats ALLOW."""

    ALLOW = 1
    DENY = 2
    PROXY = 3


class Reserved(enum.IntEnum):
    """Identities that are not computed. Source: Cilium's reserved numbers."""

    ANY = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8


ANY_PORT = 0
ANY_PROTOCOL = 0
TCP, UDP, SCTP = 6, 17, 132


class L4Entry(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """One verdict for (direction, peer, port, protocol); zeros are wildcards."""

    direction: Direction
    peer: int
    port: int
    protocol: int
    verdict: Verdict
    origins: tuple[Origin, ...]


class HeaderRule(msgspec.Struct, frozen=True, kw_only=True):
    """A header that must be there, with this exact value if one is given."""

    name: str
    """Lower case."""
    value: str | None = None


class HttpRule(msgspec.Struct, frozen=True, kw_only=True):
    """One element of rules.http: all that is given must hold; "" is any.

    path, method and host are RE2 and match in full; path includes the query string.
    """

    path: str = ""
    method: str = ""
    host: str = ""
    headers: tuple[HeaderRule, ...] = ()
    origin: Origin


class HttpAllow(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that these peers may make on one port."""

    peers: frozenset[int] | None
    """Identities; None is anybody, the empty set nobody."""
    rules: tuple[HttpRule, ...]
    """The empty tuple allows every request (an L4-only rule)."""
    origin: Origin


class HttpPort(msgspec.Struct, frozen=True, kw_only=True):
    """Judgement of requests on one (direction, port) where some rule looks into HTTP.

    A request passes if any allow with the peer matches. What L3/L4 denies was refused before;
    denied peers are repeated here because the egress pass judges without the kernel.
    """

    direction: Direction
    port: int
    """Port of the server's pod, never of a Service."""
    allows: tuple[HttpAllow, ...]
    denied: frozenset[int] | None = frozenset()
    """Peers that a deny rule covers on this port; None is everybody."""


class EndpointPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """All that holds for workloads of one identity.

    `http` holds a HttpPort for every port with verdict PROXY in `entries`. `l4(...)` of
    `penstock.policy.judge` gives the verdict for one connection.
    """

    default_ingress: Verdict = Verdict.ALLOW
    """ALLOW, or DENY once a policy enforces the direction."""
    default_egress: Verdict = Verdict.ALLOW
    entries: tuple[L4Entry, ...] = ()
    http: tuple[HttpPort, ...] = ()
    ingress_enforced_by: tuple[Origin, ...] = ()
    egress_enforced_by: tuple[Origin, ...] = ()


OPEN = EndpointPolicy()
"""No policy selects the endpoint."""
