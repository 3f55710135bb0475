"""RBAC filters from request policies.

An RBAC filter with action ALLOW lets pass what one of its policies matches, and nothing if it has
none. A filter without rules, or a disabled one, lets pass everything: neither is ever built.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
from google.protobuf.any_pb2 import Any

from penstock.envoy.wire import exact, full_match, pack
from penstock.ir.policy import Direction, HttpAllow, HttpRule
from penstock.pb.envoy.config.core.v3 import address_pb2, extension_pb2
from penstock.pb.envoy.config.rbac.v3 import rbac_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import (
    upstream_ip_port_matcher_pb2 as upstream_pb2,
)
from penstock.pb.envoy.type.v3.range_pb2 import Int64Range

IDENTITY_KEY = "penstock.identity"
"""Filter state that every listener of ours sets: identity of its pod in decimal."""

NAMESPACE_KEY = "penstock.namespace"
"""Filter state that egress listeners set: namespace of their pod."""

PREFIX = {Direction.EGRESS: "eg_", Direction.INGRESS: "in_"}
"""Prefix of the metadata keys by which a filter says what it decided."""

Addresses = Mapping[int, Sequence[str]]


Place = tuple[str, int]
"""Address and port of an endpoint."""
Network = tuple[str, int]
"""Address, and length of the prefix."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One policy of an RBAC filter."""

    name: str
    """What is logged when it decides: the origin."""
    allow: HttpAllow
    denied: frozenset[int] = frozenset()
    """Peers that it never allows."""
    endpoints: tuple[Place, ...] = ()
    """Upstream endpoints for which it holds; empty is all."""
    elsewhere: tuple[Network, ...] = ()
    """Networks for whose upstream endpoints it does not hold."""


class Principals(Protocol):
    """How a filter tells who the peer is."""

    def of(self, identity: int) -> list[rbac_pb2.Principal]:
        """Return principals of which any means *identity*; none if it cannot be met."""
        ...


class ByListener:
    """The listener that took the connection is the pod's: kernel fact, not an address."""

    def of(self, identity: int) -> list[rbac_pb2.Principal]:
        """Match the filter state that the listener set."""
        principal = rbac_pb2.Principal()
        principal.filter_state.key = IDENTITY_KEY
        principal.filter_state.string_match.CopyFrom(exact(str(identity)))
        return [principal]


class ByAddress:
    """The peer's source address, which the node's routing vouches for."""

    def __init__(self, addresses: Addresses) -> None:
        """Take identity → addresses of its workloads."""
        self._addresses = addresses

    def of(self, identity: int) -> list[rbac_pb2.Principal]:
        """Match any address of *identity*."""
        return [
            rbac_pb2.Principal(direct_remote_ip=_cidr(address))
            for address in self._addresses.get(identity, ())
        ]


def rules(judgements: Iterable[Judgement], principals: Principals) -> rbac_pb2.RBAC:
    """Build rules that allow what one of *judgements* allows, and nothing else."""
    result = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW)
    for judgement in judgements:
        who = _principal(judgement, principals)
        if who is None:
            continue
        name, n = judgement.name, 1
        while name in result.policies:
            n += 1
            name = f"{judgement.name} ({n})"
        policy = result.policies[name]
        policy.principals.append(who)
        policy.permissions.append(_permission(judgement))
    return result


def http_filter(made: rbac_pb2.RBAC, direction: Direction) -> http_rbac_pb2.RBAC:
    """Return the HTTP filter (as filter or as upstream filter) with these rules.

    The prefix keeps apart what the two upstream filters of a cluster tell the access log: Envoy
    writes `<prefix>enforced_effective_policy_id` into one metadata namespace for both.
    """
    return http_rbac_pb2.RBAC(rules=made, rules_stat_prefix=PREFIX[direction])


def per_route(made: rbac_pb2.RBAC, direction: Direction) -> http_rbac_pb2.RBACPerRoute:
    """Return the override of the deny-all filter of a listener."""
    return http_rbac_pb2.RBACPerRoute(rbac=http_filter(made, direction))


def deny_all() -> http_rbac_pb2.RBAC:
    """Return a filter that lets nothing pass."""
    return http_filter(rules((), ByListener()), Direction.INGRESS)


def refusing(networks: Iterable[Network]) -> http_rbac_pb2.RBAC:
    """Return a filter that refuses upstream addresses in *networks*."""
    result = http_rbac_pb2.RBAC(rules=rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW))
    policy = result.rules.policies["elsewhere"]
    policy.principals.add(any=True)
    policy.permissions.append(_outside(networks))
    return result


def _outside(networks: Iterable[Network]) -> rbac_pb2.Permission:
    """Permit upstream addresses that are in none of *networks*."""
    refused: list[rbac_pb2.Permission] = []
    for address, length in networks:
        cidr = address_pb2.CidrRange(address_prefix=address)
        cidr.prefix_len.value = length
        refused.append(_matcher(upstream_pb2.UpstreamIpPortMatcher(upstream_ip=cidr)))
    return rbac_pb2.Permission(not_rule=_one_of(refused))


def pass_all() -> http_rbac_pb2.RBAC:
    """Return a filter that lets everything pass, for listeners where upstream filters judge.

    What it says to the access log has a prefix of its own, which nobody reads.
    """
    passing = rbac_pb2.RBAC(action=rbac_pb2.RBAC.ALLOW)
    policy = passing.policies["judged upstream"]
    policy.permissions.add(any=True)
    policy.principals.add(any=True)
    return http_rbac_pb2.RBAC(rules=passing, rules_stat_prefix="pass_")


def ecds(
    name: str, judgements: tuple[Judgement, ...], direction: Direction
) -> extension_pb2.TypedExtensionConfig:
    """Return the extension config resource *name* for clusters: peers are told by the listener."""
    return extension_pb2.TypedExtensionConfig(
        name=name, typed_config=_packed(judgements, direction)
    )


def ecds_bytes(name: str, judgements: tuple[Judgement, ...], direction: Direction) -> bytes:
    """Return the same, serialised."""
    named = extension_pb2.TypedExtensionConfig(name=name)
    return named.SerializeToString(deterministic=True) + _unnamed(judgements, direction)


@functools.lru_cache(maxsize=256)
def _unnamed(judgements: tuple[Judgement, ...], direction: Direction) -> bytes:
    """Return what follows the name."""
    return ecds("", judgements, direction).SerializeToString(deterministic=True)


@functools.lru_cache(maxsize=256)
def _packed(judgements: tuple[Judgement, ...], direction: Direction) -> Any:
    """Return a filter that nobody may change: without policy all Services have the same two."""
    return pack(http_filter(rules(judgements, ByListener()), direction))


def _principal(judgement: Judgement, principals: Principals) -> rbac_pb2.Principal | None:
    """Return who is meant, or None for nobody."""
    peers = judgement.allow.peers
    denied = [p for i in sorted(judgement.denied) for p in principals.of(i)]
    if peers is None:
        who = rbac_pb2.Principal(any=True)
    else:
        ids = [p for i in sorted(peers - judgement.denied) for p in principals.of(i)]
        if not ids:
            return None
        who = ids[0] if len(ids) == 1 else _any_of(ids)
    if not denied or peers is not None:
        return who
    refused = rbac_pb2.Principal(not_id=denied[0] if len(denied) == 1 else _any_of(denied))
    return rbac_pb2.Principal(and_ids=rbac_pb2.Principal.Set(ids=[who, refused]))


def _any_of(ids: list[rbac_pb2.Principal]) -> rbac_pb2.Principal:
    return rbac_pb2.Principal(or_ids=rbac_pb2.Principal.Set(ids=ids))


def _permission(judgement: Judgement) -> rbac_pb2.Permission:
    parts: list[rbac_pb2.Permission] = []
    if judgement.endpoints:
        parts.append(_one_of([_upstream(*place) for place in judgement.endpoints]))
    if judgement.elsewhere:
        parts.append(_outside(judgement.elsewhere))
    if judgement.allow.rules:
        parts.append(_one_of([_http(rule) for rule in judgement.allow.rules]))
    return _all_of(parts)


def _http(rule: HttpRule) -> rbac_pb2.Permission:
    parts: list[route_pb2.HeaderMatcher] = []
    for name, pattern in (
        (":method", rule.method),
        (":authority", rule.host),
        (":path", rule.path),
    ):
        if pattern:
            parts.append(route_pb2.HeaderMatcher(name=name, string_match=full_match(pattern)))
    for header in rule.headers:
        matcher = route_pb2.HeaderMatcher(name=header.name)
        if header.value is None:
            matcher.present_match = True
        else:
            matcher.string_match.CopyFrom(exact(header.value))
        parts.append(matcher)
    return _all_of([rbac_pb2.Permission(header=part) for part in parts])


def _upstream(address: str, port: int) -> rbac_pb2.Permission:
    matcher = upstream_pb2.UpstreamIpPortMatcher(
        upstream_ip=_cidr(address), upstream_port_range=Int64Range(start=port, end=port + 1)
    )
    return _matcher(matcher)


def _matcher(matcher: upstream_pb2.UpstreamIpPortMatcher) -> rbac_pb2.Permission:
    return rbac_pb2.Permission(
        matcher=extension_pb2.TypedExtensionConfig(
            name="envoy.rbac.matchers.upstream_ip_port", typed_config=pack(matcher)
        )
    )


def _all_of(parts: list[rbac_pb2.Permission]) -> rbac_pb2.Permission:
    if not parts:
        return rbac_pb2.Permission(any=True)
    if len(parts) == 1:
        return parts[0]
    return rbac_pb2.Permission(and_rules=rbac_pb2.Permission.Set(rules=parts))


def _one_of(parts: list[rbac_pb2.Permission]) -> rbac_pb2.Permission:
    if len(parts) == 1:
        return parts[0]
    return rbac_pb2.Permission(or_rules=rbac_pb2.Permission.Set(rules=parts))


def _cidr(address: str) -> address_pb2.CidrRange:
    cidr = address_pb2.CidrRange(address_prefix=address)
    cidr.prefix_len.value = 128 if ":" in address else 32
    return cidr
