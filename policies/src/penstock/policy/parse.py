"""From policy objects to rules.

Whatever is wrong or not supported yet never opens anything: an allow rule that is not understood
allows nothing, a deny rule that is not understood denies at least what it could mean, and both
still put their subjects in default deny. Source: spec A.8, A.9, L.1; reliability B-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.core import jsonpath
from penstock.core.decode import check
from penstock.core.objects import Broken
from penstock.ir.policy import Direction, HeaderRule, HttpRule, Reserved
from penstock.meta.names import ObjectRef, Origin
from penstock.meta.problems import Problem, Severity
from penstock.policy import support
from penstock.policy.headers import parse_header
from penstock.policy.members import is_deny, peer_members
from penstock.policy.moot import moot
from penstock.policy.ports import PortMatch, matches_of
from penstock.policy.resources import (
    AnyRule,
    CiliumNetworkPolicy,
    HttpRequestRule,
    LabelSelector,
    PolicyRule,
    PortDenyRule,
    PortProtocol,
    PortRule,
)
from penstock.policy.rules import ParsedPolicy, Peer, Rule
from penstock.policy.salvage import closed, closed_rules
from penstock.policy.selector import (
    Selector,
    any_workload,
    check_subject,
    cluster_selector,
    peer_selector,
    subject_selector,
)

DEFAULT_CLUSTER = "default"

_NODES_AND_SPECIAL: tuple[Peer, ...] = (
    Reserved.HOST,
    Reserved.REMOTE_NODE,
    Reserved.INIT,
    Reserved.INGRESS,
    Reserved.HEALTH,
    Reserved.UNMANAGED,
    Reserved.KUBE_APISERVER,
)
"""What the entity `cluster` means beside workloads."""


def parse(policy: CiliumNetworkPolicy | Broken, *, cluster: str = DEFAULT_CLUSTER) -> ParsedPolicy:
    """Return the rules of *policy* and all problems with it, warnings included.

    Args:
        policy: decoded or not; one that did not decode closes what it selects.
        cluster: name of this cluster, which peers belong to unless their selector says otherwise.
    """
    if isinstance(policy, Broken):
        rules, problems = closed(policy.raw, policy.ref)
        return ParsedPolicy(rules=rules, problems=(*policy.problems, *problems))
    found = tuple(check(policy))
    if any(problem.severity is Severity.ERROR for problem in found):
        return _closed_decoded(policy, found)
    parser = _Parser(policy.ref, cluster)
    for path, rule in _rules_of(policy):
        parser.add(path, rule)
    rules = tuple(parser.rules)
    return ParsedPolicy(rules=rules, problems=(*found, *parser.problems, *moot(rules)))


def _rules_of(policy: CiliumNetworkPolicy) -> Iterator[tuple[str, PolicyRule]]:
    if policy.spec is not None:
        yield "spec", policy.spec
    for index, rule in enumerate(policy.specs):
        yield jsonpath.item("specs", index), rule


def _closed_decoded(policy: CiliumNetworkPolicy, found: tuple[Problem, ...]) -> ParsedPolicy:
    parser = _Parser(policy.ref, DEFAULT_CLUSTER)
    for path, rule in _rules_of(policy):
        parser.close(path, rule)
    return ParsedPolicy(rules=tuple(parser.rules), problems=(*found, *parser.problems))


class _Parser:
    """Collects the rules of one object."""

    def __init__(self, ref: ObjectRef, cluster: str) -> None:
        self.rules: list[Rule] = []
        self.problems: list[Problem] = []
        self._ref = ref
        self._cluster = cluster

    def add(self, path: str, rule: PolicyRule) -> None:
        """Add `spec` or one of `specs`, which passed all checks."""
        selector = rule.endpoint_selector
        if selector is None:  # unreachable after the checks; nothing to select with
            return
        self._say(path, check_subject(selector, self._ref.namespace))
        unusable = list(support.per_pod_labels(selector, "endpointSelector"))
        if unusable:
            self._say(path, unusable)
            self.close(path, rule)
            return
        subject = subject_selector(selector, self._ref.namespace)
        default = rule.enable_default_deny
        self._direction(path, subject, Direction.INGRESS, rule, default.ingress)
        self._direction(path, subject, Direction.EGRESS, rule, default.egress)

    def close(self, path: str, rule: PolicyRule) -> None:
        """Close what `spec` or one of `specs` selects, without reading its rules."""
        given = _given(msgspec.to_builtins(rule))
        given["enableDefaultDeny"] = _given(given["enableDefaultDeny"])
        rules, problems = closed_rules(given, path, self._ref)
        self.rules += rules
        self.problems += problems

    def _direction(
        self,
        path: str,
        subject: Selector,
        direction: Direction,
        rule: PolicyRule,
        explicit: bool | None,  # noqa: FBT001 - a field of the object, with three values
    ) -> None:
        name = direction.name.lower()
        ingress = direction is Direction.INGRESS
        allows: Sequence[AnyRule] = (rule.ingress if ingress else rule.egress) or ()
        denies: Sequence[AnyRule] = (rule.ingress_deny if ingress else rule.egress_deny) or ()
        default_deny = bool(allows or denies) if explicit is None else explicit
        origin = Origin(self._ref, path)
        template = Rule(
            subject=subject,
            direction=direction,
            peers=(),
            origin=origin.at(name),
            default_deny=default_deny,
            enforced_by=origin,
        )
        before = len(self.rules)
        for index, one in enumerate(allows):
            self._rule(one, _at(template, origin.at(jsonpath.item(name, index))))
        for index, one in enumerate(denies):
            self._rule(one, _at(template, origin.at(jsonpath.item(f"{name}Deny", index))))
        if default_deny and len(self.rules) == before:
            self.rules.append(template)

    def _rule(self, rule: AnyRule, template: Rule) -> None:
        """Add one element of ingress, egress or their deny forms."""
        deny = is_deny(rule)
        refused = list(support.unsupported_peers(rule))
        self._say(template.origin.path, refused)
        if refused and not deny:
            return
        peers = support.widened_peers(rule) if refused else self._peers(rule)
        template = msgspec.structs.replace(template, deny=deny, peers=peers)
        items: Sequence[PortRule | PortDenyRule] = rule.to_ports or ()
        if items:
            for index, item in enumerate(items):
                place = template.origin.at(jsonpath.item("toPorts", index))
                self._item(item, _at(template, place))
        elif deny or any(value is not None for value in peer_members(rule).values()):
            self.rules.append(template)

    def _item(self, item: PortRule | PortDenyRule, template: Rule) -> None:
        """Add one of toPorts."""
        refused = list(support.unsupported_ports(item, template.direction))
        self._say(template.origin.path, refused)
        if refused or not item.ports:
            if template.deny:
                self.rules.append(template)
            return
        http = _http(item, template) if isinstance(item, PortRule) else None
        ports = _ports(item.ports)
        self.rules.append(msgspec.structs.replace(template, ports=ports, http=http))

    def _peers(self, rule: AnyRule) -> tuple[Peer, ...] | None:
        """Return the union of all members; None if none is present, or one means anybody."""
        found: set[Peer] = set()
        present = False
        for value in peer_members(rule).values():
            if value is None:
                continue
            present = True
            for one in value:
                if isinstance(one, LabelSelector):
                    found.add(peer_selector(one, self._ref.namespace, self._cluster))
                elif one == "all":
                    return None
                else:
                    found.update(self._entity(str(one)))
        return tuple(sorted(found, key=_order)) if present else None

    def _entity(self, entity: str) -> tuple[Peer, ...]:
        match entity:
            case "none":
                return ()
            case "cluster":
                return (*_NODES_AND_SPECIAL, cluster_selector(self._cluster))
            case "cluster-mesh":
                return (*_NODES_AND_SPECIAL, any_workload())
            case _:
                return (Reserved[entity.upper().replace("-", "_")],)

    def _say(self, path: str, problems: Iterable[Problem]) -> None:
        for problem in problems:
            place = jsonpath.join(path, problem.path)
            self.problems.append(msgspec.structs.replace(problem, path=place))


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _at(template: Rule, origin: Origin) -> Rule:
    return msgspec.structs.replace(template, origin=origin)


def _order(peer: Peer) -> tuple[int, str]:
    return (int(peer), "") if isinstance(peer, Reserved) else (1 << 32, str(peer))


def _ports(ports: Iterable[PortProtocol]) -> tuple[PortMatch, ...]:
    matches = (matches_of(port.port, port.end_port, port.protocol) for port in ports)
    return tuple(sorted({match for found in matches for match in found}))


def _http(item: PortRule, template: Rule) -> tuple[HttpRule, ...] | None:
    """Return the allowed requests; without default deny any request is one of them."""
    if item.rules is None or not item.rules.http:
        return None
    origin = template.origin.at("rules.http")
    rules = [
        _http_rule(rule, origin.at(f"[{index}]")) for index, rule in enumerate(item.rules.http)
    ]
    if not template.default_deny:
        rules.append(HttpRule(origin=template.enforced_by.at("enableDefaultDeny")))
    return tuple(rules)


def _http_rule(rule: HttpRequestRule, origin: Origin) -> HttpRule:
    headers = [parse_header(text) for text in rule.headers]
    headers += [
        HeaderRule(name=match.name.lower(), value=match.value or None)
        for match in rule.header_matches
    ]
    return HttpRule(
        path=rule.path,
        method=rule.method,
        host=rule.host,
        headers=tuple(headers),
        origin=origin,
    )
