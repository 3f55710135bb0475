"""From the rules that select one identity to its EndpointPolicy.

Source: spec A.8 (default deny), A.9 (composition), B (HTTP); the kernel's lattice is in
`penstock.policy.judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.ir.policy import (
    ANY_PORT,
    ANY_PROTOCOL,
    TCP,
    Direction,
    EndpointPolicy,
    HttpAllow,
    HttpPort,
    L4Entry,
    Reserved,
    Verdict,
)
from penstock.meta.names import ObjectRef, Origin
from penstock.policy.identity import RESERVED_LABELS
from penstock.policy.rules import Rule
from penstock.policy.selector import Selector

NODE = Origin(ObjectRef("Node", "", "host"))
"""Why a node may always reach its own pods: probes are not subject to policy."""

DEFAULT_ALLOW = Origin(ObjectRef("Default", "", "allow"))
"""Why anybody may, where no policy enforces the direction."""

_NO_PORTS: Mapping[str, frozenset[int]] = {}
_RANK = {Verdict.ALLOW: 0, Verdict.PROXY: 1, Verdict.DENY: 2}

PortKey = tuple[int, int]
"""Port and protocol, zeros being wildcards."""


class _Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with identities for peers and numbers for ports."""

    rule: Rule
    peers: frozenset[int] | None
    """None is anybody."""
    ports: frozenset[PortKey]

    def covers(self, port: int) -> bool:
        """Return whether the rule speaks of TCP *port*."""
        return not self.ports.isdisjoint(((port, TCP), (ANY_PORT, TCP), (ANY_PORT, ANY_PROTOCOL)))


def endpoint_policy(
    rules: Iterable[Rule],
    identities_of: Callable[[Selector], frozenset[int]],
    named_ports: Mapping[str, frozenset[int]] = _NO_PORTS,
) -> EndpointPolicy:
    """Return what holds for an identity that all *rules* select, in any order.

    Args:
        rules: of all policies, each selecting the identity.
        identities_of: the identities of workloads that a peer selector matches; reserved ones
            are added here.
        named_ports: numbers by container port name, of the identity's own pods. A name that is
            missing covers nothing.
    """
    resolved = [_resolve(rule, identities_of, named_ports) for rule in rules]
    ingress = [one for one in resolved if one.rule.direction is Direction.INGRESS]
    egress = [one for one in resolved if one.rule.direction is Direction.EGRESS]
    entries = [*_entries(Direction.INGRESS, ingress), *_entries(Direction.EGRESS, egress)]
    return EndpointPolicy(
        default_ingress=_default(ingress),
        default_egress=_default(egress),
        entries=tuple(sorted(entries)),
        http=(*_http(Direction.INGRESS, ingress), *_http(Direction.EGRESS, egress)),
        ingress_enforced_by=_enforced_by(ingress),
        egress_enforced_by=_enforced_by(egress),
    )


def _resolve(
    rule: Rule,
    identities_of: Callable[[Selector], frozenset[int]],
    named_ports: Mapping[str, frozenset[int]],
) -> _Resolved:
    peers: frozenset[int] | None = None
    if rule.peers is not None:
        peers = frozenset[int]().union(
            *(
                _workloads(peer, identities_of) if isinstance(peer, Selector) else {int(peer)}
                for peer in rule.peers
            )
        )
    return _Resolved(rule=rule, peers=peers, ports=frozenset(_port_keys(rule, named_ports)))


def _workloads(
    selector: Selector, identities_of: Callable[[Selector], frozenset[int]]
) -> frozenset[int]:
    """Return all identities of a selector; reserved ones are in no namespace."""
    found = identities_of(selector)
    if selector.namespaces is not None:
        return found
    return found.union(
        number for number, labels in RESERVED_LABELS.items() if selector.matches(labels)
    )


def _port_keys(rule: Rule, named_ports: Mapping[str, frozenset[int]]) -> Iterator[PortKey]:
    if rule.ports is None:
        yield ANY_PORT, ANY_PROTOCOL
        return
    for port in rule.ports:
        if not port.name:
            yield port.number, port.protocol
            continue
        for number in named_ports.get(port.name, ()):
            yield number, port.protocol


def _default(resolved: Sequence[_Resolved]) -> Verdict:
    return Verdict.DENY if any(one.rule.default_deny for one in resolved) else Verdict.ALLOW


def _enforced_by(resolved: Sequence[_Resolved]) -> tuple[Origin, ...]:
    return tuple(sorted({one.rule.enforced_by for one in resolved if one.rule.default_deny}))


def _verdict(rule: Rule) -> Verdict:
    if rule.deny:
        return Verdict.DENY
    return Verdict.ALLOW if rule.http is None else Verdict.PROXY


def _entries(direction: Direction, resolved: Sequence[_Resolved]) -> Iterator[L4Entry]:
    """Yield one entry for each (peer, port, protocol): the strongest verdict and who gave it."""
    strongest: dict[tuple[int, int, int], tuple[Verdict, set[Origin]]] = {}
    for one in resolved:
        verdict = _verdict(one.rule)
        peers = (int(Reserved.ANY),) if one.peers is None else one.peers
        for key in ((peer, *port) for peer in peers for port in one.ports):
            known = strongest.get(key)
            if known is None or _RANK[verdict] > _RANK[known[0]]:
                strongest[key] = (verdict, {one.rule.origin})
            elif verdict is known[0]:
                known[1].add(one.rule.origin)
    for (peer, port, protocol), (verdict, origins) in strongest.items():
        yield L4Entry(
            direction=direction,
            peer=peer,
            port=port,
            protocol=protocol,
            verdict=verdict,
            origins=tuple(sorted(origins)),
        )


def _http(direction: Direction, resolved: Sequence[_Resolved]) -> Iterator[HttpPort]:
    """Yield the judgement of requests for each port where some rule looks into HTTP."""
    looked_into = {
        port
        for one in resolved
        if one.rule.http is not None and (one.peers is None or one.peers)
        for port, _ in one.ports
    }
    for port in sorted(looked_into):
        covering = [one for one in resolved if one.covers(port)]
        yield HttpPort(
            direction=direction,
            port=port,
            allows=_allows(direction, covering, resolved),
            denied=_denied(covering),
        )


def _allows(
    direction: Direction, covering: Sequence[_Resolved], resolved: Sequence[_Resolved]
) -> tuple[HttpAllow, ...]:
    allows = {
        HttpAllow(peers=one.peers, rules=one.rule.http or (), origin=one.rule.origin)
        for one in covering
        if not one.rule.deny and (one.peers is None or one.peers)
    }
    if _default(resolved) is Verdict.ALLOW:
        first = min(one.rule.enforced_by for one in resolved)
        allows.add(HttpAllow(peers=None, rules=(), origin=first.at("enableDefaultDeny")))
    if direction is Direction.INGRESS:
        allows.add(HttpAllow(peers=frozenset({int(Reserved.HOST)}), rules=(), origin=NODE))
    return tuple(sorted(allows, key=_order))


def _denied(covering: Sequence[_Resolved]) -> frozenset[int] | None:
    denied = frozenset[int]()
    for one in covering:
        if one.rule.deny:
            if one.peers is None:
                return None
            denied |= one.peers
    return denied


def _order(allow: HttpAllow) -> tuple[Origin, list[int], str]:
    return allow.origin, sorted(allow.peers or ()), str(allow.rules)
