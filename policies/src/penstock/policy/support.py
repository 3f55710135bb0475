"""What is valid in Cilium and not enforced yet: named, so that it is refused and never ignored.

Source: design §3, §8; spec L.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from penstock.core import jsonpath
from penstock.ir.policy import Direction, Reserved
from penstock.meta.problems import Problem
from penstock.policy import ports as port_syntax
from penstock.policy.identity import PER_POD_LABELS
from penstock.policy.members import is_deny, peer_members
from penstock.policy.resources import (
    AnyRule,
    HttpRequestRule,
    L7Rules,
    LabelSelector,
    PortDenyRule,
    PortProtocol,
    PortRule,
)
from penstock.policy.rules import Peer
from penstock.policy.selector import split_key

_SUPPORTED_PEERS = ("fromEndpoints", "toEndpoints", "fromEntities", "toEntities")
_BY_ADDRESS = ("fromCIDR", "toCIDR", "fromCIDRSet", "toCIDRSet")
_UNKNOWN_ENTITIES = ("kube-apiserver", "unmanaged", "world-ipv4", "world-ipv6")

OUTSIDE: tuple[Peer, ...] = (Reserved.WORLD, Reserved.KUBE_APISERVER, Reserved.UNMANAGED)
"""Whom a prefix can mean: it never matches workloads of the cluster or its nodes."""


def widened_peers(rule: AnyRule) -> tuple[Peer, ...] | None:
    """Return the peers of a deny rule that is not understood: at least those it means."""
    used = [name for name, value in peer_members(rule).items() if value]
    return OUTSIDE if used and all(name in _BY_ADDRESS for name in used) else None


def unsupported_peers(rule: AnyRule) -> Iterator[Problem]:
    """Return a problem for each part of *rule* outside toPorts that is not enforced yet."""
    for name, value in peer_members(rule).items():
        if value and name not in _SUPPORTED_PEERS:
            yield _refused(name, rule)
            continue
        for index, one in enumerate(value or ()):
            if isinstance(one, LabelSelector):
                yield from per_pod_labels(one, jsonpath.item(name, index))
            elif one in _UNKNOWN_ENTITIES:
                yield _refused(jsonpath.item(name, index), rule)
    if rule.icmps:
        yield _refused("icmps", rule)
    if not is_deny(rule):
        mode = getattr(getattr(rule, "authentication", None), "mode", "disabled")
        if mode != "disabled":
            yield _refused("authentication", rule)


def unsupported_ports(item: PortRule | PortDenyRule, direction: Direction) -> Iterator[Problem]:
    """Return a problem for each part of one of toPorts that is not enforced yet."""
    for index, port in enumerate(item.ports):
        reason = _unsupported_port(port, direction)
        if reason:
            deny = isinstance(item, PortDenyRule)
            yield refusal(jsonpath.item("ports", index), reason, deny=deny)
    if not isinstance(item, PortRule):
        return
    for name, value in (
        ("terminatingTLS", item.terminating_tls),
        ("originatingTLS", item.originating_tls),
        ("serverNames", item.server_names),
        ("listener", item.listener),
    ):
        if value is not None:
            yield refusal(name, "is not supported yet", deny=False)
    if item.rules is not None:
        yield from _unsupported_rules(item.rules)


def _unsupported_rules(rules: L7Rules) -> Iterator[Problem]:
    for name, value in (("kafka", rules.kafka), ("dns", rules.dns), ("l7", rules.l7)):
        if value is not None:
            yield refusal(f"rules.{name}", "is not supported yet", deny=False)
    if rules.l7proto:
        yield refusal("rules.l7proto", "is not supported yet", deny=False)
    for index, one in enumerate(rules.http or ()):
        yield from _unsupported_http(one, jsonpath.item("rules.http", index))


def _unsupported_http(rule: HttpRequestRule, path: str) -> Iterator[Problem]:
    for index, match in enumerate(rule.header_matches):
        here = f"{path}.headerMatches[{index}]"
        if match.mismatch:
            yield refusal(f"{here}.mismatch", f"{match.mismatch} is not supported yet", deny=False)
        if match.secret is not None:
            yield refusal(f"{here}.secret", "is not supported yet", deny=False)


def _unsupported_port(port: PortProtocol, direction: Direction) -> str:
    if port.protocol in port_syntax.EXTENDED_PROTOCOLS:
        return f"protocol {port.protocol} is not supported yet"
    number = port_syntax.number_of(port.port)
    if number is None and direction is Direction.EGRESS:
        return "names of ports on egress are not supported yet"
    last = port_syntax.last_of(port.port, port.end_port)
    if number is not None and last is not None and last - number >= port_syntax.MAX_RANGE:
        return f"ranges of more than {port_syntax.MAX_RANGE} ports are not supported yet"
    return ""


def per_pod_labels(selector: LabelSelector, path: str) -> Iterator[Problem]:
    """Return a problem for each label that is no part of an identity and so never matches."""
    keys = [(jsonpath.member(f"{path}.matchLabels", key), key) for key in selector.match_labels] + [
        (f"{path}.matchExpressions[{index}].key", expression.key)
        for index, expression in enumerate(selector.match_expressions)
    ]
    for place, key in keys:
        if not is_known_label(key):
            yield Problem(
                place,
                f"{key!r} differs from pod to pod of one workload and is not known to policies",
                "select by a label that the workload's pods share",
            )


def is_known_label(key: str) -> bool:
    """Return whether identities can have the label of a selector's *key*."""
    return split_key(key)[1] not in PER_POD_LABELS


def refusal(path: str, reason: str, *, deny: bool) -> Problem:
    """Return the problem of a part that is valid but not enforced yet."""
    effect = "all that this could deny is denied" if deny else "this allows nothing"
    return Problem(path, f"{reason}: {effect}")


def _refused(name: str, rule: AnyRule) -> Problem:
    return refusal(name, "is not supported yet", deny=is_deny(rule))
