"""Indexes of the collections: in which buckets an object is found, because of what it says."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from penstock.core.kinds import EndpointSlice
from penstock.core.objects import Broken
from penstock.envoy.cluster import Role
from penstock.gatewayapi.attach import ParentKind, hostnames_of, kind_of, parents_of, target_of
from penstock.gatewayapi.backends import is_xbackend
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.fields import BackendObjectReference, ParentReference
from penstock.gatewayapi.filters import HTTPExternalAuthFilter, HTTPRouteFilter
from penstock.gatewayapi.grpc_resources import GRPCRoute, GRPCRouteRule
from penstock.gatewayapi.hostname import ANY
from penstock.gatewayapi.listener_filters import filters_of
from penstock.gatewayapi.listener_set import ListenerHolder
from penstock.gatewayapi.resources import HTTPRoute
from penstock.gatewayapi.routes import AnyRoute
from penstock.gatewayapi.rules import HTTPRouteRule
from penstock.gatewayapi.stream_resources import StreamRoute, StreamRule, TCPRoute, TLSRoute
from penstock.ingress.derive import IngressRoute
from penstock.ir.external import target_of_xbackend
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, ObjectRef

ALL = "all"
"""Bucket of everything, in indexes that have one."""


class HostnameAt(msgspec.Struct, frozen=True, order=True):
    """A hostname as routes write it for a listener of a Gateway or a ListenerSet, or for all.

    Only those of one parent are in an order.
    """

    kind: ParentKind
    parent: NamespacedName
    section: str
    """Name of the listener; "" for all of them."""
    hostname: str
    """ANY for routes that write none."""


class Part(msgspec.Struct, frozen=True):
    """A part of the routes of a Gateway or a ListenerSet, always the same one for a route."""

    kind: ParentKind
    parent: NamespacedName
    path: tuple[int, ...]
    """Number of the part, of a part of that, and so on; each below PARTS."""


PARTS, PART_DEPTH = 8, 3
"""So many parts are added up, so deep: a change costs a small part, however many routes there are.
"""


def slice_services(key: NamespacedName, slice_: EndpointSlice) -> tuple[NamespacedName, ...]:
    """Return the Service that endpoints are of."""
    return (NamespacedName(key.namespace, slice_.service),) if slice_.service else ()


def served_as(kind: ParentKind) -> ParentKind:
    """Return the kind of parent as which *kind* is served: ListenerSets are parts of Gateways."""
    return ParentKind.GATEWAY if kind is ParentKind.LISTENER_SET else kind


def route_parents(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, NamespacedName]]:
    """Yield the parents that a route names, whether they accept it or not."""
    for parent in parents_of(route):
        yield kind_of(parent), target_of(parent, key)


def route_kinds(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, NamespacedName, str]]:
    """Yield the parents that a route names, each with the kind of the route."""
    for kind, target in route_parents(key, route):
        yield kind, target, key.kind


def _at_gateways(route: AnyRoute | Broken) -> Iterator[tuple[ParentReference, ParentKind]]:
    """Yield the parentRefs to Gateways and to parts of them, with what they point at."""
    for parent in parents_of(route):
        kind = kind_of(parent)
        if served_as(kind) is ParentKind.GATEWAY:
            yield parent, kind


def route_hostnames(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[HostnameAt]:
    """Yield what a route writes for listeners."""
    for parent, kind in _at_gateways(route):
        target, section = target_of(parent, key), parent.section_name or ""
        for hostname in hostnames_of(route) or (ANY,):
            yield HostnameAt(kind, target, section, hostname)


def route_parts(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[Part]:
    """Yield the parts of Gateways that a route belongs to."""
    for parent, kind in _at_gateways(route):
        digest = zlib.crc32(f"{key.kind} {key.key}".encode())
        path = tuple([digest // PARTS**depth % PARTS for depth in range(PART_DEPTH)])
        for depth in range(1, PART_DEPTH + 1):
            yield Part(kind, target_of(parent, key), path[:depth])


def of_parent(key: HostnameAt, _: bool) -> Iterator[tuple[ParentKind, NamespacedName]]:  # noqa: FBT001 - the index protocol
    """Yield the parent of a hostname."""
    yield key.kind, key.parent


def wide(key: HostnameAt, _: bool) -> Iterator[tuple[ParentKind, NamespacedName]]:  # noqa: FBT001 - the index protocol
    """Yield the parent of a hostname that stands for several."""
    if key.hostname.startswith("*"):
        yield key.kind, key.parent


def route_backends(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, ServicePort]]:
    """Yield the Service ports and XBackends that requests, and copies of them, go to.

    Each with the kinds of parents that they come by.
    """
    references = [*_asked(route), *copied_to(route)]
    if not references:
        return
    kinds = {served_as(kind_of(parent)) for parent in parents_of(route)}
    for ref in references:
        name = NamespacedName(ref.namespace or key.namespace, ref.name)
        if is_xbackend(ref):
            for kind in kinds:
                yield kind, target_of_xbackend(name)
        elif ref.port is not None:
            for kind in kinds:
                yield kind, ServicePort(name, ref.port)


def used(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[NamespacedName]:
    """Yield the Services that a route at Gateways needs connections to, whatever their ports."""
    if not any(_at_gateways(route)):
        return
    rules = route.spec.rules if isinstance(route, TCPRoute | TLSRoute) else ()
    streams = (ref for rule in rules for ref in rule.backend_refs)
    for ref in (*_asked(route), *copied_to(route), *streams):
        if not is_xbackend(ref):
            yield NamespacedName(ref.namespace or key.namespace, ref.name)
    yield from (target.service for _, target in authorities(key, route))


def _asked(route: AnyRoute | Broken) -> list[BackendObjectReference]:
    """Return where requests go."""
    found: list[BackendObjectReference] = []
    for rule in _http_rules(route):
        found += rule.backend_refs
    return found


def copied_to(route: AnyRoute | Broken) -> list[BackendObjectReference]:
    """Return where copies of requests go."""
    found: list[BackendObjectReference] = []
    for rule in _http_rules(route):
        for one in rule.filters:
            if one.request_mirror is not None:
                found.append(one.request_mirror.backend_ref)  # noqa: PERF401 - of all routes
    return found


def authorities(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service ports that are asked whether requests may pass."""
    if isinstance(route, IngressRoute) and route.guards.auth is not None:
        yield Role.AUTH, route.guards.auth.target
    for rule in _http_rules(route):
        for one in rule.filters:
            asked = one.external_auth if isinstance(one, HTTPRouteFilter) else None
            if asked is not None:
                yield from _authority(asked, key.namespace)


def asked_by_listeners(
    key: NamespacedName, holder: ListenerHolder
) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service ports that are asked because of filters of listeners."""
    for listener in holder.spec.listeners:
        for one in filters_of(listener):
            if one.external_auth is not None:
                yield from _authority(one.external_auth, key.namespace)


def used_by_listeners(key: NamespacedName, holder: ListenerHolder) -> Iterator[NamespacedName]:
    """Yield the Services that are asked because of filters of listeners, whatever their ports."""
    yield from (target.service for _, target in asked_by_listeners(key, holder))


def _authority(asked: HTTPExternalAuthFilter, namespace: str) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service port that a filter in *namespace* asks, if it names one."""
    ref = asked.backend_ref
    if ref.port is not None:
        role = Role.AUTH_GRPC if asked.protocol == "GRPC" else Role.AUTH
        yield role, ServicePort(NamespacedName(ref.namespace or namespace, ref.name), ref.port)


def route_consumers(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[str]:
    """Yield ALL if the route is written for clients of its own namespace only."""
    for kind, target in route_parents(key, route):
        if kind is ParentKind.SERVICE and target.namespace != key.namespace:
            yield ALL


def weighted(_: ObjectRef, route: AnyRoute | Broken) -> tuple[str, ...]:
    """Return ALL if some rule shares its requests among several backends."""
    for rule in _http_rules(route) or _for_requests(route):
        if len(rule.backend_refs) > 1:
            return (ALL,)
    return ()


def streamed(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports, and XBackends, that a TCPRoute on a Service leads to."""
    if isinstance(route, TCPRoute):
        yield from _on_service(key, route)


def passed(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the same of a TLSRoute."""
    if isinstance(route, TLSRoute):
        yield from _on_service(key, route)


def passing(_: ObjectRef, route: AnyRoute | Broken) -> Iterator[str]:
    """Yield ALL for a TLSRoute on a Service."""
    if isinstance(route, TLSRoute) and _rules_on_service(route):
        yield ALL


def _on_service(key: ObjectRef, route: TCPRoute | TLSRoute) -> Iterator[ServicePort]:
    for rule in _rules_on_service(route):
        for ref in rule.backend_refs:
            name = NamespacedName(ref.namespace or key.namespace, ref.name)
            if is_xbackend(ref):
                yield target_of_xbackend(name)
            elif ref.port is not None:
                yield ServicePort(name, ref.port)


def _rules_on_service(route: TCPRoute | TLSRoute) -> tuple[StreamRule, ...]:
    """Return the rules of a route if a Service is one of its parents."""
    parents = route.spec.parent_refs
    on_service = any(kind_of(one) is ParentKind.SERVICE for one in parents)
    return route.spec.rules if on_service else ()


def _for_requests(route: AnyRoute | Broken) -> tuple[StreamRule, ...]:
    """Return the rules of a TCPRoute on a Service, by which requests may go, too."""
    return _rules_on_service(route) if isinstance(route, TCPRoute) else ()


def _http_rules(route: AnyRoute | Broken) -> tuple[HTTPRouteRule, ...] | tuple[GRPCRouteRule, ...]:
    """Return the rules of a route for requests; others, and what cannot be read, have none."""
    return route.spec.rules if isinstance(route, (HTTPRoute, GRPCRoute)) else ()


def sessions(_: ObjectRef, route: AnyRoute | Broken) -> tuple[str, ...]:
    """Return ALL if some rule with several backends keeps sessions."""
    for one in _http_rules(route):
        if one.session_persistence is not None and len(one.backend_refs) > 1:
            return (ALL,)
    return ()


def externals(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[NamespacedName]:
    """Yield the XBackends that a route leads to, of whatever kind it is."""
    rules = route.spec.rules if isinstance(route, StreamRoute) else ()
    streams = (ref for rule in rules for ref in rule.backend_refs)
    for ref in (*_asked(route), *copied_to(route), *streams):
        if is_xbackend(ref):
            yield NamespacedName(ref.namespace or key.namespace, ref.name)


def trusts_system(_: NamespacedName, backend: XBackend | Broken) -> Iterator[str]:
    """Yield ALL if an XBackend asks for the authorities of the system."""
    if isinstance(backend, XBackend) and backend.trusts_system:
        yield ALL


def speaks_tls(_: NamespacedName, backend: XBackend | Broken) -> Iterator[str]:
    """Yield ALL if TLS is spoken to an XBackend."""
    if isinstance(backend, XBackend) and backend.spec.tls.mode != "None":
        yield ALL


def shown(_: NamespacedName, backend: XBackend | Broken) -> Iterator[NamespacedName]:
    """Yield the Secret with the certificate that is shown to an XBackend."""
    name = backend.certificate if isinstance(backend, XBackend) else None
    if name is not None:
        yield name


def upstream(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports of which the route says how they are met."""
    if isinstance(route, IngressRoute) and route.upstream is not None:
        yield from (target for _, target in route_backends(key, route))


def grpc(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports that are asked, and are sent copies, by gRPC only."""
    if isinstance(route, GRPCRoute):
        yield from (target for _, target in route_backends(key, route))
