"""Judgement of one connection or request by an EndpointPolicy: the model that others must equal.

The kernel programs and Envoy's RBAC implement the same; tests compare them with this, and
`explain` answers with it. Source: spec A.9, B.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from penstock.ir.policy import (
    ANY_PORT,
    ANY_PROTOCOL,
    TCP,
    Direction,
    EndpointPolicy,
    HeaderRule,
    HttpAllow,
    HttpPort,
    HttpRule,
    L4Entry,
    Reserved,
    Verdict,
)
from penstock.ir.regex import full_match
from penstock.meta.names import Origin
from penstock.policy.resolve import DEFAULT_ALLOW, NODE

Origins = tuple[Origin, ...]

_STRONGEST_FIRST = (Verdict.DENY, Verdict.PROXY, Verdict.ALLOW)


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as Envoy sees it after normalisation."""

    method: str = "GET"
    path: str = "/"
    """With the query string."""
    host: str = ""
    """As sent, with the port if the client sent one."""
    headers: Mapping[str, str] = {}
    """By lower-case name; repeated ones joined with commas."""


def l4(
    policy: EndpointPolicy, direction: Direction, peer: int, port: int, protocol: int
) -> tuple[Verdict, Origins]:
    """Return the verdict for one connection and the rules or policies that gave it.

    All entries that cover it count, however specific: DENY beats PROXY beats ALLOW. A node always
    reaches its own pods.
    """
    if direction is Direction.INGRESS and peer == Reserved.HOST:
        return Verdict.ALLOW, (NODE,)
    covering = [
        entry
        for entry in policy.entries
        if entry.direction == direction and _covers(entry, peer, port, protocol)
    ]
    for verdict in _STRONGEST_FIRST:
        origins = {
            origin for entry in covering if entry.verdict == verdict for origin in entry.origins
        }
        if origins:
            return verdict, tuple(sorted(origins))
    if direction is Direction.INGRESS:
        default, enforced_by = policy.default_ingress, policy.ingress_enforced_by
    else:
        default, enforced_by = policy.default_egress, policy.egress_enforced_by
    return default, enforced_by if default is Verdict.DENY else ()


def http(
    policy: EndpointPolicy, direction: Direction, peer: int, port: int, request: HttpRequest
) -> tuple[bool, Origins]:
    """Return whether *request* over TCP passes, and the rules that let it or refused it.

    A refusal by L7 is given the rules that looked into the request.
    """
    verdict, origins = l4(policy, direction, peer, port, TCP)
    if verdict is not Verdict.PROXY:
        return verdict is Verdict.ALLOW, origins
    allowed, deciding = by_rules(http_port(policy, direction, port), peer, request)
    return allowed, deciding if allowed else origins


def by_rules(rules: HttpPort, peer: int, request: HttpRequest) -> tuple[bool, Origins]:
    """Return whether *rules* alone let *request* pass, as where no kernel judged before."""
    if rules.denied is None or peer in rules.denied:
        return False, ()
    origins = {
        origin
        for allow in rules.allows
        if allow.peers is None or peer in allow.peers
        for origin in _allowing(allow, request)
    }
    return bool(origins), tuple(sorted(origins))


def http_port(policy: EndpointPolicy, direction: Direction, port: int) -> HttpPort:
    """Return the judgement of requests on TCP *port*, also where no rule looks into HTTP.

    Where only L3/L4 rules hold, it allows or denies all requests of a peer: a pass that judges
    without the kernel needs that too.
    """
    for one in policy.http:
        if one.direction == direction and one.port == port:
            return one
    covering = [
        entry
        for entry in policy.entries
        if entry.direction == direction and _covers(entry, entry.peer, port, TCP)
    ]
    allows = _allows(entry for entry in covering if entry.verdict is Verdict.ALLOW)
    ingress = direction is Direction.INGRESS
    default = policy.default_ingress if ingress else policy.default_egress
    if default is Verdict.ALLOW:
        allows.append(HttpAllow(peers=None, rules=(), origin=DEFAULT_ALLOW))
    if ingress:
        allows.append(HttpAllow(peers=frozenset({int(Reserved.HOST)}), rules=(), origin=NODE))
    denied = [_peers(entry) for entry in covering if entry.verdict is Verdict.DENY]
    known = [peers for peers in denied if peers is not None]
    return HttpPort(
        direction=direction,
        port=port,
        allows=tuple(allows),
        denied=frozenset[int]().union(*known) if len(known) == len(denied) else None,
    )


def matches(rule: HttpRule, request: HttpRequest) -> bool:
    """Return whether all that *rule* asks for holds; patterns match in full."""
    return (
        (not rule.path or full_match(rule.path, request.path))
        and (not rule.method or full_match(rule.method, request.method))
        and (not rule.host or full_match(rule.host, request.host))
        and all(_has(header, request) for header in rule.headers)
    )


def _allowing(allow: HttpAllow, request: HttpRequest) -> Origins:
    if not allow.rules:
        return (allow.origin,)
    return tuple(rule.origin for rule in allow.rules if matches(rule, request))


def _has(header: HeaderRule, request: HttpRequest) -> bool:
    pseudo = {":path": request.path, ":method": request.method, ":authority": request.host}
    value = pseudo.get(header.name, request.headers.get(header.name))
    return value is not None and header.value in (None, value)


def _covers(entry: L4Entry, peer: int, port: int, protocol: int) -> bool:
    return entry.peer in (peer, Reserved.ANY) and (entry.port, entry.protocol) in (
        (port, protocol),
        (ANY_PORT, protocol),
        (ANY_PORT, ANY_PROTOCOL),
    )


def _allows(entries: Iterable[L4Entry]) -> list[HttpAllow]:
    """Return one allow for each rule, sorted, with all the peers that it lets in."""
    found: dict[Origin, frozenset[int] | None] = {}
    for entry in entries:
        for origin in entry.origins:
            before, more = found.get(origin, frozenset()), _peers(entry)
            found[origin] = None if before is None or more is None else before | more
    return [
        HttpAllow(peers=peers, rules=(), origin=origin) for origin, peers in sorted(found.items())
    ]


def _peers(entry: L4Entry) -> frozenset[int] | None:
    return None if entry.peer == Reserved.ANY else frozenset({entry.peer})
