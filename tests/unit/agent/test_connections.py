from __future__ import annotations

import socket
from ipaddress import ip_address

from penstock.agent.connections import PodSockets, Scope, doomed, misled, policed_legs
from penstock.agent.lattice import CLOSED, IdentityPolicy, Match
from penstock.bpf.sockdiag import Connection
from penstock.ir.policy import Direction, Verdict
from penstock.meta.marks import POLICED, POLICED_GATEWAY, UNREAD

POD, PEER, NODE, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.254", "192.0.2.1"
IDENTITIES = {POD: 100, PEER: 200, NODE: 1}
ENVOY, APP = 77, 88
IN, OUT = Direction.INGRESS, Direction.EGRESS
OPEN = IdentityPolicy(default_ingress=Verdict.ALLOW, default_egress=Verdict.ALLOW)


def connection(
    local: tuple[str, int], remote: tuple[str, int], *, cgroup: int = APP, mark: int = 0
) -> Connection:
    return Connection(
        socket.AF_INET, b"", ip_address(local[0]), local[1], ip_address(remote[0]), remote[1],
        mark=mark, cgroup=cgroup,
    )  # fmt: skip


INWARD = connection((POD, 8080), (PEER, 40000))
OUTWARD = connection((POD, 50000), (PEER, 8080))


def rule(direction: Direction, verdict: Verdict) -> IdentityPolicy:
    return IdentityPolicy(
        default_ingress=Verdict.ALLOW,
        default_egress=Verdict.ALLOW,
        entries={Match(direction, 200, 8080, 6): verdict},
    )


def judged(
    *connections: Connection,
    policy: IdentityPolicy,
    policed: dict[tuple[str, int, str, int], int] | None = None,
) -> list[Connection]:
    sockets = PodSockets(connections=connections, listening=frozenset({8080, 15001, 15006}))
    scope = Scope(
        identity=100,
        policy=policy,
        identity_of=lambda address: IDENTITIES.get(address, 2),
        envoy_cgroups={ENVOY},
        policed=policed or {},
    )
    return doomed(sockets, scope)


def test_what_is_still_allowed_goes_on() -> None:
    assert judged(INWARD, OUTWARD, policy=OPEN) == []


def test_what_is_denied_now_ends_in_the_direction_of_the_denial() -> None:
    assert judged(INWARD, OUTWARD, policy=rule(IN, Verdict.DENY)) == [INWARD]
    assert judged(INWARD, OUTWARD, policy=rule(OUT, Verdict.DENY)) == [OUTWARD]


def test_what_goes_through_envoy_now_and_does_not_ends() -> None:
    assert judged(OUTWARD, policy=rule(OUT, Verdict.PROXY)) == [OUTWARD]
    assert judged(INWARD, policy=rule(IN, Verdict.PROXY)) == [INWARD]


def test_what_goes_past_envoy_now_ends_at_its_ingress_listener_only() -> None:
    leg = connection((POD, 50000), (PEER, 8080), cgroup=ENVOY)
    accepted = connection((POD, 8080), (PEER, 40000), cgroup=ENVOY)
    assert judged(leg, accepted, INWARD, policy=OPEN) == [accepted]


def test_connections_to_the_egress_listener_end_where_they_would_not_be_led_there() -> None:
    service, direct = ("10.96.0.1", 80), (PEER, 8080)
    kept, stale, unknown = (
        connection(("127.0.0.1", port), ("127.0.0.1", 15001)) for port in (50001, 50002, 50003)
    )
    envoys = connection(("127.0.0.1", 50002), ("127.0.0.1", 15001), cgroup=ENVOY)
    other = connection(("127.0.0.1", 50002), ("127.0.0.1", 8080))
    sockets = PodSockets(
        connections=(kept, stale, unknown, envoys, other, OUTWARD), listening=frozenset()
    )
    asked = {50001: service, 50002: direct}
    found = misled(
        sockets,
        envoy_cgroups={ENVOY},
        original=lambda leg: asked.get(leg.local_port),
        redirects=lambda address, port: (address, port) == service,
    )
    assert found == [stale]


def test_envoy_s_own_connections_end_only_by_a_denial() -> None:
    leg = connection((POD, 50000), (PEER, 8080), cgroup=ENVOY)
    accepted = connection((POD, 8080), (PEER, 40000), cgroup=ENVOY)
    assert judged(leg, policy=rule(OUT, Verdict.PROXY)) == []
    assert judged(accepted, policy=rule(IN, Verdict.PROXY)) == []
    assert judged(leg, policy=rule(OUT, Verdict.DENY)) == [leg]
    assert judged(accepted, policy=rule(IN, Verdict.DENY)) == [accepted]


def test_what_envoy_passes_on_unread_ends_where_requests_are_judged_now() -> None:
    leg = connection((POD, 50000), (PEER, 8080), cgroup=ENVOY, mark=UNREAD)
    assert judged(leg, policy=OPEN) == []
    assert judged(leg, policy=rule(OUT, Verdict.PROXY)) == [leg]
    assert judged(leg, policy=rule(OUT, Verdict.DENY)) == [leg]


def test_what_the_client_s_pass_has_judged_goes_on() -> None:
    policed = {(PEER, 40000, POD, 8080): POLICED}
    assert judged(INWARD, policy=rule(IN, Verdict.PROXY), policed=policed) == []


def test_loopback_and_the_pod_to_itself_are_never_touched() -> None:
    loopback = connection(("127.0.0.1", 50000), ("127.0.0.1", 15001))
    itself = connection((POD, 50000), (POD, 8080))
    assert judged(loopback, itself, policy=CLOSED) == []


def test_the_node_s_probes_go_on_and_a_gateway_s_requests_do_not() -> None:
    probe = connection((POD, 8080), (NODE, 40000))
    request = connection((POD, 8080), (NODE, 40001))
    policed = {(NODE, 40001, POD, 8080): POLICED_GATEWAY}
    assert judged(probe, request, policy=CLOSED, policed=policed) == [request]


def test_only_legs_of_envoy_s_own_cgroup_are_believed_to_be_judged() -> None:
    mine = connection((PEER, 40000), (POD, 8080), cgroup=ENVOY, mark=POLICED)
    forged = connection((PEER, 40001), (POD, 8080), cgroup=APP, mark=POLICED)
    unmarked = connection((PEER, 40002), (POD, 8080), cgroup=ENVOY)
    sockets = PodSockets(connections=(mine, forged, unmarked), listening=frozenset())
    assert policed_legs(sockets, {ENVOY}) == {(PEER, 40000, POD, 8080): POLICED}
