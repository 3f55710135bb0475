"""Which open connections a change of verdicts ends.

A connection keeps the verdict of its SYN: the kernel judges connects, not packets. So after the
maps have changed, the connections that would be refused now are destroyed, and those that would go
through Envoy now and do not. Source: the connections that exist in a pod's network namespace:

| socket | whose | judged |
|---|---|---|
| the application's, outward, to another address | the pod's cgroup | egress; PROXY ends it too |
| the application's, inward | the pod's cgroup | ingress; PROXY ends it unless Envoy judges it |
| Envoy's own legs to a backend | Envoy's cgroup | egress; DENY ends it, PROXY what is unread |
| Envoy's ingress listener's | Envoy's cgroup | ingress; all but PROXY ends it |
| the application's to the egress listener | the pod's cgroup | ended if it would go elsewhere now |
| other loopback, and the pod to itself | any | never |

Envoy forgets the routes of what is not led to it any more, so a connection that still is would be
answered 403 or 404 for as long as its client keeps it.

Inward and judged by Envoy is what the egress pass of the client has judged: its leg is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from penstock.agent.lattice import IdentityPolicy, Match, judge
from penstock.bpf.sockdiag import Connection, destroy_listed, list_connections
from penstock.ir.policy import TCP, Direction, Reserved, Verdict
from penstock.meta.listeners import EGRESS_PORT
from penstock.meta.marks import GATEWAY, POLICED, POLICED_GATEWAY, UNREAD

Tuple = tuple[str, int, str, int]
"""Address and port of the dialling and of the accepting side."""
IDENTITY_OF_MARK: dict[int, int] = {
    POLICED_GATEWAY: int(Reserved.INGRESS),
    GATEWAY: int(Reserved.INGRESS),
}


class PodSockets(msgspec.Struct, frozen=True, kw_only=True):
    """The TCP sockets of one network namespace."""

    connections: tuple[Connection, ...]
    listening: frozenset[int]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to judge the connections of one pod."""

    identity: int
    policy: IdentityPolicy
    identity_of: Callable[[str], int]
    envoy_cgroups: AbstractSet[int]
    """Inodes of Envoy's cgroup and of those below it."""
    policed: Mapping[Tuple, int]
    """Connections that an egress pass has judged, or of Gateways, by Envoy's legs: their marks."""


def sockets_of(netns: Path) -> PodSockets:
    """List the sockets of a namespace.

    Raises:
        DatapathError: no such namespace, or the kernel refuses.
    """
    connections, listening = list_connections(netns)
    return PodSockets(connections=tuple(connections), listening=frozenset(listening))


def policed_legs(sockets: PodSockets, envoy_cgroups: AbstractSet[int]) -> dict[Tuple, int]:
    """Return what Envoy dialled with the mark of a judged connection or a Gateway, and the mark."""
    return {
        (str(c.local), c.local_port, str(c.remote), c.remote_port): c.mark
        for c in sockets.connections
        if c.mark in {POLICED, POLICED_GATEWAY, GATEWAY} and c.cgroup in envoy_cgroups
    }


def doomed(sockets: PodSockets, scope: Scope) -> list[Connection]:
    """Return the connections that the present verdicts do not allow as they are."""
    return [
        connection
        for connection in sockets.connections
        if not connection.is_own
        and not _survives(connection, scope, inward=connection.local_port in sockets.listening)
    ]


def _survives(connection: Connection, scope: Scope, *, inward: bool) -> bool:
    direction = Direction.INGRESS if inward else Direction.EGRESS
    port = connection.local_port if inward else connection.remote_port
    ends = (str(connection.remote), connection.remote_port, str(connection.local), port)
    mark = scope.policed.get(ends, 0) if inward else 0
    peer = IDENTITY_OF_MARK.get(mark) or scope.identity_of(str(connection.remote))
    verdict = judge(scope.policy, Match(direction, peer, port, TCP))
    is_envoys = connection.cgroup in scope.envoy_cgroups
    if verdict is not Verdict.PROXY:
        return verdict is Verdict.ALLOW and not (is_envoys and inward)
    if is_envoys and connection.mark == UNREAD:
        return False
    return is_envoys or mark in {POLICED, POLICED_GATEWAY}


def misled(
    sockets: PodSockets,
    *,
    envoy_cgroups: AbstractSet[int],
    original: Callable[[Connection], tuple[str, int] | None],
    redirects: Callable[[str, int], bool],
) -> list[Connection]:
    """Return the connections to the pod's egress listener that would not be led there now.

    Args:
        sockets: of the pod.
        envoy_cgroups: inodes of Envoy's cgroup and of those below it.
        original: what a connection asked for; None if it is not known.
        redirects: whether a connect to an address and port is led to the listener.
    """
    led = (
        connection
        for connection in sockets.connections
        if connection.remote.is_loopback
        and connection.remote_port == EGRESS_PORT
        and connection.cgroup not in envoy_cgroups
    )
    asked = ((connection, original(connection)) for connection in led)
    return [connection for connection, what in asked if what and not redirects(*what)]


def destroy(netns: Path, connections: Collection[Connection]) -> int:
    """Destroy what `doomed` found; return how many were still there."""
    return destroy_listed(netns, connections) if connections else 0
