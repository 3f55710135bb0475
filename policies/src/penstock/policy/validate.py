"""What is wrong with a policy although the types are right: peers, ports, combinations.

Each function returns problems with paths relative to the struct that it is given.
Source: spec A.2 to A.6.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from penstock.meta.problems import Problem, Severity
from penstock.policy import ports as port_syntax
from penstock.policy.members import is_deny, peer_members

if TYPE_CHECKING:
    from penstock.policy.resources import (
        AnyRule,
        CidrRule,
        IcmpField,
        ListenerRef,
        PolicyRule,
        PortDenyRule,
        PortProtocol,
        PortRule,
        ServiceRef,
    )

ENTITIES = (
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "cluster-mesh",
    "host",
    "init",
    "ingress",
    "unmanaged",
    "remote-node",
    "health",
    "none",
    "kube-apiserver",
)
AUTHENTICATION_MODES = ("disabled", "required", "test-always-fail")
LISTENER_KINDS = ("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")
MAX_PORTS = 40
MAX_ICMP_FIELDS = 40
_MAX_LOG = 32
_MAX_SERVER_NAME = 255
_MAX_PRIORITY = 100
_MAX_ICMP_TYPE = 255
_ICMP_NAME = re.compile(r"[A-Z][A-Za-z0-9]*\Z")
_SERVER_NAME = re.compile(r"[-a-zA-Z0-9_.*]+\Z")


def check_policy_rule(rule: PolicyRule) -> Iterator[Problem]:
    """Return problems about selector and presence of rules."""
    if rule.node_selector is not None:
        yield Problem(
            "nodeSelector",
            "a CiliumNetworkPolicy cannot select nodes",
            "use endpointSelector; nodes are selected by CiliumClusterwideNetworkPolicy",
        )
    if rule.endpoint_selector is None:
        yield Problem(
            "endpointSelector",
            "is missing: the policy selects nothing",
            "write `endpointSelector: {}` for every pod of the namespace",
        )
    if not (rule.ingress or rule.ingress_deny or rule.egress or rule.egress_deny):
        yield Problem(
            "",
            "has no element in ingress, ingressDeny, egress or egressDeny",
            "write `ingress: [{}]` to deny all ingress",
        )


def check_rule(rule: AnyRule) -> Iterator[Problem]:
    """Return problems about the members of one element of ingress, egress or their deny forms."""
    given = peer_members(rule)
    used = [name for name, value in given.items() if value and not name.endswith("Requires")]
    if len(used) > 1:
        yield Problem("", f"combines {' and '.join(used)}", "make a rule of each")
    for name, value in given.items():
        if name.endswith("Requires") and value:
            yield Problem(name, "was removed from Cilium", "write the labels into every selector")
        elif name in ("fromCIDR", "toCIDR"):
            yield from _check_cidrs(name, value or ())
        elif name in ("fromEntities", "toEntities"):
            yield from _check_entities(name, value or ())
    if rule.icmps and rule.to_ports:
        yield Problem("icmps", "cannot stand beside toPorts", "make a rule of each")
    yield from _check_extent(rule, anyone=all(value is None for value in given.values()))


def _check_extent(rule: AnyRule, *, anyone: bool) -> Iterator[Problem]:
    """Warn of what covers more or less than it seems to."""
    deny = is_deny(rule)
    items: Sequence[PortRule | PortDenyRule] = rule.to_ports or ()
    if deny and anyone and not (items or rule.icmps):
        yield Problem("", "names neither peers nor ports: all is denied", "", Severity.WARNING)
    if rule.to_ports is not None and not items:
        yield Problem("toPorts", "is empty: every port is meant", "", Severity.WARNING)
    for index, item in enumerate(items):
        if not item.ports:
            effect = "every port is denied" if deny else "it allows nothing"
            place = f"toPorts[{index}]"
            yield Problem(place, f"names no port: {effect}", "list ports", Severity.WARNING)


def _check_entities(name: str, entities: Iterable[object]) -> Iterator[Problem]:
    for index, entity in enumerate(entities):
        if entity not in ENTITIES:
            hint = f"use one of {', '.join(ENTITIES)}"
            yield Problem(f"{name}[{index}]", f"unknown entity {entity!r}", hint)


def _check_cidrs(name: str, cidrs: Iterable[object]) -> Iterator[Problem]:
    for index, cidr in enumerate(cidrs):
        if _prefix(str(cidr)) is None:
            yield Problem(f"{name}[{index}]", f"{cidr!r} is not a prefix", "write 192.0.2.0/24")


def _prefix(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or "%" in address:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def check_cidr_rule(rule: CidrRule) -> Iterator[Problem]:
    """Return problems about one of fromCIDRSet or toCIDRSet."""
    forms = (rule.cidr, rule.cidr_group_ref, rule.cidr_group_selector)
    if sum(form is not None for form in forms) != 1:
        yield Problem("", "must have one of cidr, cidrGroupRef and cidrGroupSelector")
    outer = _prefix(rule.cidr) if rule.cidr is not None else None
    if rule.cidr is not None and outer is None:
        yield Problem("cidr", f"{rule.cidr!r} is not a prefix", "write 192.0.2.0/24")
    for index, text in enumerate(rule.except_):
        inner = _prefix(text)
        if inner is None:
            yield Problem(f"except[{index}]", f"{text!r} is not a prefix")
        elif outer is not None and not _contains(outer, inner):
            yield Problem(f"except[{index}]", f"{text} is not inside {outer}")


def _contains(
    outer: ipaddress.IPv4Network | ipaddress.IPv6Network,
    inner: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> bool:
    first, last = int(outer.network_address), int(outer.broadcast_address)
    return (
        outer.version == inner.version
        and first <= int(inner.network_address)
        and int(inner.broadcast_address) <= last
    )


def check_service(service: ServiceRef) -> Iterator[Problem]:
    """Return a problem unless exactly one form of toServices is used."""
    if (service.k8s_service is None) == (service.k8s_service_selector is None):
        yield Problem("", "must have one of k8sService and k8sServiceSelector")


def check_icmp_fields(count: int) -> Iterator[Problem]:
    """Return a problem if there are too many fields."""
    if count > MAX_ICMP_FIELDS:
        yield Problem("fields", f"{count} are too many, the maximum is {MAX_ICMP_FIELDS}")


def check_icmp(field: IcmpField) -> Iterator[Problem]:
    """Return problems about one ICMP type."""
    if field.family not in ("IPv4", "IPv6"):
        yield Problem("family", f"{field.family!r} is unknown", "use IPv4 or IPv6")
    if isinstance(field.type, int):
        if not 0 <= field.type <= _MAX_ICMP_TYPE:
            yield Problem("type", f"{field.type} is not a number from 0 to {_MAX_ICMP_TYPE}")
    elif not _ICMP_NAME.match(field.type):
        yield Problem("type", f"{field.type!r} is not an ICMP type", "write 8 or EchoRequest")


def check_authentication(mode: str) -> Iterator[Problem]:
    """Return a problem unless *mode* is known."""
    if mode not in AUTHENTICATION_MODES:
        hint = f"use one of {', '.join(AUTHENTICATION_MODES)}"
        yield Problem("mode", f"{mode!r} is unknown", hint)


def check_listener(listener: ListenerRef) -> Iterator[Problem]:
    """Return problems about a listener reference."""
    if listener.envoy_config.kind not in ("", *LISTENER_KINDS):
        hint = f"use {' or '.join(LISTENER_KINDS)}"
        yield Problem("envoyConfig.kind", f"{listener.envoy_config.kind!r} is unknown", hint)
    if listener.priority is not None and not 1 <= listener.priority <= _MAX_PRIORITY:
        yield Problem("priority", f"{listener.priority} is not from 1 to {_MAX_PRIORITY}")


def check_log(value: str) -> Iterator[Problem]:
    """Return a problem if the word for flows is too long or not printable."""
    if len(value) > _MAX_LOG or not value.isprintable():
        yield Problem("value", f"must be at most {_MAX_LOG} printable characters")


def check_port_count(count: int) -> Iterator[Problem]:
    """Return a problem if one item names too many ports."""
    if count > MAX_PORTS:
        hint = "make a second item of toPorts"
        yield Problem("ports", f"{count} are too many, the maximum is {MAX_PORTS}", hint)


def check_port(port: PortProtocol) -> Iterator[Problem]:
    """Return problems about one of ports."""
    protocol = port.protocol or "ANY"
    extended = protocol in port_syntax.EXTENDED_PROTOCOLS
    if not extended and protocol not in port_syntax.PROTOCOLS:
        hint = f"use {', '.join(port_syntax.PROTOCOLS)}"
        hint = "write icmps beside toPorts[]" if protocol.startswith("ICMP") else hint
        yield Problem("protocol", f"{port.protocol!r} is unknown", hint)
    if extended:
        if port.port not in ("", "0"):
            yield Problem("port", f"{protocol} has no ports", 'write "0"')
    elif not port.port:
        yield Problem("port", "must be given", 'write "0" for every port')
    elif port_syntax.number_of(port.port) is None and not port_syntax.is_name(port.port):
        zero = port.port.isdecimal() and port.port.startswith("0")
        hint = "write it without leading zeros" if zero else 'write a number, as "80", or a name'
        yield Problem("port", f"{port.port[:80]!r} is not a port", hint)
    if not 0 <= port.end_port <= port_syntax.MAX_PORT:
        yield Problem("endPort", f"{port.end_port} is not from 0 to {port_syntax.MAX_PORT}")


def check_port_rule(item: PortRule) -> Iterator[Problem]:
    """Return problems about one of toPorts in an allow rule."""
    yield from check_port_count(len(item.ports))
    yield from _check_server_names(item)
    rules = item.rules
    if rules is None:
        return
    for_tcp = bool(rules.http or rules.kafka or rules.l7 or rules.l7proto)
    if item.listener is not None and (for_tcp or rules.dns):
        yield Problem("listener", "cannot stand beside rules", "remove one of the two")
    if for_tcp or rules.dns:
        yield from _check_l7_ports(item.ports, dns=bool(rules.dns))
    if rules.dns and not item.ports:
        yield Problem("ports", "must be given for DNS rules", 'write port "53"')


def _check_l7_ports(ports: Sequence[PortProtocol], *, dns: bool) -> Iterator[Problem]:
    for index, port in enumerate(ports):
        here = f"ports[{index}]"
        if not dns and port.protocol != "TCP":
            said = port.protocol or "ANY, as it is left out"
            yield Problem(f"{here}.protocol", f"rules need TCP, not {said}", "write protocol: TCP")
        if dns and port.protocol not in ("", "ANY", "TCP", "UDP"):
            yield Problem(f"{here}.protocol", f"DNS rules need UDP or TCP, not {port.protocol}")
        if port_syntax.number_of(port.port) == 0:
            yield Problem(f"{here}.port", "rules need a port that is not 0", "name the port")
        if dns and port_syntax.last_of(port.port, port.end_port) is not None:
            yield Problem(f"{here}.endPort", "DNS rules do not take a range")


def _check_server_names(item: PortRule) -> Iterator[Problem]:
    if item.server_names is None:
        return
    if not item.server_names:
        yield Problem("serverNames", "must not be empty", "remove it, or list the names")
    for index, name in enumerate(item.server_names):
        if len(name) > _MAX_SERVER_NAME or not _SERVER_NAME.match(name):
            yield Problem(f"serverNames[{index}]", f"{name[:80]!r} is not a server name")
    rules = item.rules
    looks_inside = rules is not None and bool(rules.http or rules.kafka or rules.dns or rules.l7)
    if looks_inside and item.terminating_tls is None:
        yield Problem("serverNames", "with rules needs terminatingTLS", "remove one of the two")


def check_ingress_ports(items: Sequence[PortRule]) -> Iterator[Problem]:
    """Return problems about what is for egress only."""
    for index, item in enumerate(items):
        if item.rules is not None and item.rules.dns:
            hint = "lookups are made by clients: write it below egress"
            yield Problem(f"toPorts[{index}].rules.dns", "is not possible on ingress", hint)
        if item.listener is not None:
            yield Problem(f"toPorts[{index}].listener", "is not possible on ingress")
