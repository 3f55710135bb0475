"""Ingresses written as objects of the Gateway API, and what has no equal there."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from penstock.core.objects import Object, ObjectMeta
from penstock.gatewayapi.fields import ParentReference
from penstock.gatewayapi.resources import Gateway, GatewaySpec, HTTPRoute, ReferenceGrant
from penstock.gatewayapi.rules import HTTPPathMatch, HTTPRouteRule
from penstock.gatewayapi.stream_resources import TLSRoute
from penstock.ingress import affinity, migrated_tls
from penstock.ingress.annotations import options
from penstock.ingress.derive import Derived, IngressRoute, age, gateway
from penstock.ingress.problems import problems
from penstock.ingress.rules import AUTHORITY
from penstock.meta.names import NamespacedName, ObjectRef
from penstock.meta.problems import Problem

MAX_RULES = 16
MAX_LISTENERS = 64
GATEWAY_CLASS = "penstock"
_PATHS = "spec.rules["

Json = dict[str, Any]


class Migrated(msgspec.Struct, frozen=True):
    """Objects to apply, and what of the Ingresses they do not say."""

    objects: tuple[Object, ...]
    lost: tuple[tuple[ObjectRef, Problem], ...]
    remarks: dict[ObjectRef, tuple[str, ...]]
    """Lines of comment before those of the objects with rules that lead nowhere: why they do."""


def migrate(found: Iterable[Derived]) -> Migrated:
    """Return the objects of the Gateway API that are equal to Ingresses of ours."""
    ordered = sorted(found, key=lambda one: age(one.ingress))
    entries: dict[NamespacedName, list[Derived]] = {}
    for one in ordered:
        entries.setdefault(one.entry, []).append(one)
    objects: list[Object] = []
    lost: list[tuple[ObjectRef, Problem]] = []
    remarks: dict[ObjectRef, tuple[str, ...]] = {}
    for entry, reached in entries.items():
        made = _gateway(entry, reached)
        objects.append(made)
        if len(made.spec.listeners) > MAX_LISTENERS:
            text = f"has {len(made.spec.listeners)} listeners, at most {MAX_LISTENERS} are allowed"
            lost.append((made.ref, Problem("spec.listeners", text, "use ListenerSets")))
        for one in reached:
            objects += _grants(one, made)
            routes = [
                route
                for each in one.routes
                if not _is_guarded(each)
                for route in _routes(each, one, made.key)
            ]
            remarks |= {route.ref: _why_closed(one) for route in routes if _leads_nowhere(route)}
            objects += routes
            objects += _streams(one, made.key)
            objects += migrated_tls.policies(one)
    for one in ordered:
        lost += ((one.ingress.ref, problem) for problem in _lost(one))
    return Migrated(tuple(objects), tuple(lost), remarks)


def _leads_nowhere(route: HTTPRoute) -> bool:
    """Tell whether some rule has no backend and does nothing else: it answers 500."""
    return any(not rule.backend_refs and not rule.filters for rule in route.spec.rules)


def _why_closed(one: Derived) -> tuple[str, ...]:
    """Return why rules of an Ingress lead nowhere."""
    closed = options(one.ingress).closed
    faults = [f"{p.path}: {p.message}" for p in _lost(one) if p.path.startswith(_PATHS)]
    why = [f"Ingress {one.ingress.key} is closed: {closed}"] if closed else faults
    return (*why, "Rules without backendRefs answer 500.")


def _gateway(entry: NamespacedName, reached: Sequence[Derived]) -> Gateway:
    """Return the Gateway of an entry, in the namespace of its oldest Ingress."""
    made = gateway(entry, reached, at_nodes=True)
    namespace = reached[0].ingress.metadata.namespace
    name = entry.name.rstrip("~").rpartition("~")[2]
    dedicated = not entry.name.endswith("~")
    return Gateway(
        metadata=ObjectMeta(name=name if dedicated else f"{name}-ingress", namespace=namespace),
        spec=GatewaySpec(gateway_class_name=GATEWAY_CLASS, listeners=made.spec.listeners),
    )


def _grants(one: Derived, to: Gateway) -> Iterator[ReferenceGrant]:
    grant = one.grant
    if grant is None or one.ingress.metadata.namespace == to.metadata.namespace:
        return
    who = msgspec.structs.replace(grant.spec.from_[0], namespace=to.metadata.namespace)
    spec = msgspec.structs.replace(grant.spec, from_=(who,))
    name = f"{one.ingress.metadata.name}-certificates"
    meta = ObjectMeta(name=name, namespace=grant.metadata.namespace)
    yield ReferenceGrant(metadata=meta, spec=spec)


def _routes(route: HTTPRoute, of: Derived, to: NamespacedName) -> Iterator[HTTPRoute]:
    """Yield a route as it can be written, in parts of as many rules as one may have."""
    meta = of.ingress.metadata
    part = route.metadata.name.removeprefix(f"ingress~{meta.name}~")
    parents = tuple(
        ParentReference(name=to.name, namespace=to.namespace, port=one.port)
        for one in route.spec.parent_refs
    )
    rules = [_writable(rule) for rule in route.spec.rules]
    for first in range(0, len(rules), MAX_RULES):
        more = f"-{first // MAX_RULES}" if first else ""
        spec = msgspec.structs.replace(
            route.spec, parent_refs=parents, rules=tuple(rules[first : first + MAX_RULES])
        )
        name = f"{meta.name}-{part}{more}"
        yield HTTPRoute(metadata=ObjectMeta(name=name, namespace=meta.namespace), spec=spec)


def _streams(of: Derived, to: NamespacedName) -> Iterator[TLSRoute]:
    """Yield the routes of TLS that is passed on; one without a backend cannot be written."""
    for one in of.streams:
        if not all(rule.backend_refs for rule in one.spec.rules):
            continue
        meta = of.ingress.metadata
        part = one.metadata.name.removeprefix(f"ingress~{meta.name}~")
        parents = tuple(
            ParentReference(name=to.name, namespace=to.namespace, port=each.port)
            for each in one.spec.parent_refs
        )
        spec = msgspec.structs.replace(one.spec, parent_refs=parents)
        name = ObjectMeta(name=f"{meta.name}-{part}", namespace=meta.namespace)
        yield TLSRoute(metadata=name, spec=spec)


def _is_guarded(route: IngressRoute) -> bool:
    """Return whether a route keeps somebody out."""
    guards = route.guards
    return bool(guards.sources or guards.denied_sources or guards.auth)


def _writable(rule: HTTPRouteRule) -> HTTPRouteRule:
    matches = tuple(
        msgspec.structs.replace(
            one, headers=tuple(each for each in one.headers if each.name != AUTHORITY)
        )
        for one in rule.matches
    )
    return msgspec.structs.replace(rule, matches=matches)


def _lost(one: Derived) -> Iterator[Problem]:
    yield from problems(one.ingress)
    for index, rule in enumerate(one.ingress.spec.rules):
        if rule.host.startswith("*.") and not one.passed:
            text = f"{rule.host} stands for one label in an Ingress, for any number in an HTTPRoute"
            yield Problem(f"spec.rules[{index}].host", text, "name the hosts, or let it be")
        for number, path in enumerate(rule.http.paths if rule.http is not None else ()):
            if path.backend.resource is not None:
                place = f"spec.rules[{index}].http.paths[{number}].backend.resource"
                yield Problem(place, "is not served", "the rule answers 500")
    if any(map(_is_guarded, one.routes)):
        text = "source ranges and auth-url have no equal: the routes would be open"
        yield Problem(
            "metadata.annotations", text, "they are left out; use the filter ExternalAuth"
        )
    if any(route.guards.max_body for route in one.routes):
        text = "proxy-body-size has no equal"
        yield Problem("metadata.annotations", text, "bodies of any size pass")
    if any(route.guards.limits for route in one.routes):
        text = "limit-rps and limit-rpm have no equal"
        yield Problem("metadata.annotations", text, "clients may ask as often as they like")
    if any(route.idle_timeout_ms for route in one.routes):
        text = "proxy-read-timeout and proxy-send-timeout, limits of silence, have no equal"
        yield Problem("metadata.annotations", text, "exchanges end after 300 s of silence")
    yield from migrated_tls.lost(one)
    found = next((route.affinity for route in one.routes), None)
    cookie = None if found is None else affinity.lost(found)
    if cookie is not None:
        yield cookie


def written(thing: Object) -> Json:
    """Return an object as it is written, without what is the default."""
    head = {"apiVersion": thing.api_versions[0], "kind": thing.kind}
    body: Json = _plain(thing)
    return head | body


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if not isinstance(value, msgspec.Struct):
        return value
    result: Json = {}
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        if found is None or found in ((), {}):
            continue
        if isinstance(value, HTTPPathMatch) or found != field.default:
            result[field.encode_name] = _plain(found)
    return result
