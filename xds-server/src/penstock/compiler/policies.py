"""Queries about policy: which rules hold for an identity, and what they come to on a port.

Policy is computed for identities, not for pods: pods with equal labels share it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock.compiler.database import Database, Identity
from penstock.compiler.indexes import ALL
from penstock.incremental.query import query
from penstock.ir.policy import (
    Direction,
    EndpointPolicy,
    HttpAllow,
    HttpPort,
    Reserved,
    Verdict,
)
from penstock.meta.names import NamespacedName
from penstock.policy.judge import http_port
from penstock.policy.parse import parse
from penstock.policy.resolve import endpoint_policy
from penstock.policy.rules import ParsedPolicy, Rule
from penstock.policy.selector import Selector


class PortOf(msgspec.Struct, frozen=True, order=True):
    """A port of the workloads with one identity, in one direction of their policy."""

    identity: int
    direction: Direction
    port: int


class Toward(msgspec.Struct, frozen=True, order=True):
    """Egress of one identity toward another on a port of its pods."""

    client: int
    server: int
    port: int


@query
def parsed(db: Database, name: NamespacedName) -> ParsedPolicy | None:
    """Return the rules of one policy object."""
    policy = db.policies.get(name)
    return None if policy is None else parse(policy, cluster=db.settings.cluster)


@query
def selected_by(db: Database, identity: int) -> tuple[Rule, ...]:
    """Return the rules whose subject is *identity*, in order of their policies' names."""
    who = db.identities.get(identity)
    if who is None:
        return ()
    rules: list[Rule] = []
    own, common = (db.policies.bucket("namespace", one) for one in (who.namespace, ""))
    for name in (*own, *common):
        policy = parsed(db, name)
        if policy is not None:
            rules.extend(rule for rule in policy.rules if rule.subject.matches(who.labels))
    return tuple(rules)


@query
def identities_of(db: Database, selector: Selector) -> frozenset[int]:
    """Return the identities that *selector* matches now."""
    buckets: Iterable[str] = (ALL,) if selector.namespaces is None else sorted(selector.namespaces)
    found: set[int] = set()
    for bucket in buckets:
        for identity in db.identities.bucket("namespace", bucket):
            who = db.identities.get(identity)
            if who is not None and selector.matches(who.labels):
                found.add(identity)
    return frozenset(found)


@query
def endpoint(db: Database, identity: int) -> EndpointPolicy:
    """Return all that holds for workloads of *identity*."""
    who: Identity | None = db.identities.get(identity)
    ports: dict[str, set[int]] = {}
    for name, number in who.ports if who is not None else ():
        ports.setdefault(name, set()).add(number)
    return endpoint_policy(
        selected_by(db, identity),
        lambda selector: identities_of(db, selector),
        {name: frozenset(numbers) for name, numbers in ports.items()},
    )


@query
def judged(db: Database, port: PortOf) -> HttpPort:
    """Return what may pass on *port*, L3/L4 rules included, as one judgement of requests."""
    return http_port(endpoint(db, port.identity), port.direction, port.port)


@query
def toward(db: Database, pair: Toward) -> tuple[HttpAllow, ...]:
    """Return what the client's egress rules allow it to ask the server; nothing is ()."""
    egress = judged(db, PortOf(pair.client, Direction.EGRESS, pair.port))
    if egress.denied is None or pair.server in egress.denied:
        return ()
    me = frozenset({pair.client})
    return tuple(
        msgspec.structs.replace(allow, peers=me)
        for allow in egress.allows
        if allow.peers is None or pair.server in allow.peers
    )


@query
def egress_enforced(db: Database, _: None) -> tuple[int, ...]:
    """Return the identities that have any egress rule, sorted."""
    return tuple(i for i in db.identities.bucket("namespace", ALL) if has_egress_rules(db, i))


@query
def has_egress_rules(db: Database, identity: int) -> bool:
    """Tell whether the identity's egress is restricted at all."""
    policy = endpoint(db, identity)
    return policy.default_egress is Verdict.DENY or any(
        entry.direction is Direction.EGRESS for entry in policy.entries
    )


@query
def egress_http(db: Database, identity: int) -> tuple[tuple[int, frozenset[int] | None], ...]:
    """Return (port, peers or None for anybody) of the identity's egress rules that read HTTP."""
    found: dict[int, frozenset[int] | None] = {}
    for entry in endpoint(db, identity).entries:
        if entry.direction is Direction.EGRESS and entry.verdict is Verdict.PROXY:
            before = found.get(entry.port, frozenset())
            peers = None if entry.peer == Reserved.ANY else frozenset({entry.peer})
            found[entry.port] = None if before is None or peers is None else before | peers
    return tuple(sorted(found.items()))


@query
def http_asked_of(db: Database, identity: int) -> frozenset[int]:
    """Return the ports of *identity* on which some client's egress rules read HTTP."""
    return frozenset(
        port
        for client in egress_enforced(db, None)
        for port, peers in egress_http(db, client)
        if peers is None or identity in peers
    )
