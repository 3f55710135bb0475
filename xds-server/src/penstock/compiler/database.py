"""The inputs of all queries: collections of objects, workloads and identities."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator

import msgspec

from penstock.compiler.settings import Settings
from penstock.core.crds import CustomResourceDefinition
from penstock.core.kinds import (
    ClusterTrustBundle,
    ConfigMap,
    EndpointSlice,
    Namespace,
    Secret,
    Service,
)
from penstock.core.objects import Broken
from penstock.envoy.cluster import Role
from penstock.gatewayapi.attach import ParentKind, head_of, kind_of, parents_of, target_of
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy, services_of_broken
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.backends import is_xbackend
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.fields import BackendObjectReference, ParentReference
from penstock.gatewayapi.filters import HTTPExternalAuthFilter, HTTPRouteFilter
from penstock.gatewayapi.grants import Permission, permissions
from penstock.gatewayapi.grpc_resources import GRPCRoute, GRPCRouteRule
from penstock.gatewayapi.hostname import ANY
from penstock.gatewayapi.listener_filters import filters_of
from penstock.gatewayapi.listener_set import ListenerHolder, ListenerSet
from penstock.gatewayapi.listener_tls import named_secrets, shown_to_backends
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.gatewayapi.routes import AnyRoute
from penstock.gatewayapi.rules import HTTPRouteRule
from penstock.gatewayapi.shadows import asked_by
from penstock.gatewayapi.stream_resources import StreamRoute, StreamRule, TCPRoute
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.gatewayapi.trust import TrustSources
from penstock.gatewayapi.versions import GROUPS
from penstock.incremental.collection import Collection
from penstock.incremental.engine import Engine, Node
from penstock.ingress.derive import Derived, IngressRoute
from penstock.ingress.resources import IngressClass
from penstock.ir.external import target_of_xbackend
from penstock.ir.route import ServicePort
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.meta.networks import is_private
from penstock.policy.resources import CiliumNetworkPolicy

ALL = "all"
"""Bucket of everything, in indexes that have one."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A pod with a network of its own, as far as its node and its peers must know it."""

    uid: str
    name: NamespacedName
    node: str
    """Where it was placed; "" if that is not known."""
    addresses: tuple[str, ...]
    """None as long as nobody has reported them."""
    identity: int
    captured: bool = True
    """Whether its node steers it into Envoy."""
    ports: tuple[tuple[str, int], ...]
    """Named container ports: (name, number)."""


class ReadyPod(msgspec.Struct, frozen=True, kw_only=True):
    """A pod that may be sent to, as far as who selects it must know it."""

    addresses: tuple[str, ...]
    labels: dict[str, str]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that are no workload's but have a reserved identity: a node, or a pod of Envoy."""

    origin: Origin
    node: str
    addresses: tuple[str, ...]
    identity: int


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node, as far as somebody depends on it: nothing of it changes with a heartbeat."""

    ready: bool
    addresses: tuple[str, ...]
    """By which other nodes reach it."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What all workloads with one identity have in common."""

    labels: dict[str, str]
    """Identity labels, named with their source: "k8s:app"."""
    namespace: str
    ports: tuple[tuple[str, int], ...]
    """Named container ports of any of them."""


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


class ServiceCollections:
    """What is reached."""

    def __init__(self, engine: Engine) -> None:
        """Make empty collections."""
        self.namespaces: Collection[NamespacedName, Namespace] = Collection(engine)
        self.services: Collection[NamespacedName, Service] = Collection(
            engine,
            {
                "address": lambda _, s: s.addresses,
                "balanced": lambda _, s: (ALL,) if s.spec.type == "LoadBalancer" else (),
            },
        )
        self.slices: Collection[NamespacedName, EndpointSlice] = Collection(
            engine, {"service": _slice_services}
        )


class TrustCollections:
    """How endpoints are met, and by which certificates who is believed."""

    def __init__(self, engine: Engine) -> None:
        """Make empty collections."""
        self.backend_tls: Collection[NamespacedName, BackendTLSPolicy] = Collection(
            engine,
            {
                "service": lambda _, policy: policy.services,
                "all": lambda _key, _policy: (ALL,),
                "system": lambda _, policy: (ALL,) if policy.trusts_system else (),
            },
        )
        self.broken_backend_tls: Collection[NamespacedName, Broken] = Collection(
            engine,
            {
                "service": lambda _, policy: services_of_broken(policy),
                "all": lambda _key, _policy: (ALL,),
            },
        )
        """Policies that are not understood; their Services are not connected to."""
        self.backend_traffic: Collection[NamespacedName, XBackendTrafficPolicy] = Collection(
            engine,
            {"service": lambda _, policy: policy.services, "all": lambda _key, _policy: (ALL,)},
        )
        self.telemetry: Collection[NamespacedName, XTelemetryPolicy] = Collection(
            engine,
            {
                "all": lambda _key, _policy: (ALL,),
                "gateway": lambda _, policy: policy.gateways,
                "enabled": lambda _, policy: () if policy.provider is None else (ALL,),
                "collector": lambda _, policy: policy.collectors,
            },
        )
        self.externals: Collection[NamespacedName, XBackend | Broken] = Collection(
            engine,
            {
                "system": _trusts_system,
                "secret": _shown,
                "tls": _speaks_tls,
            },
        )
        """Places outside of the cluster, and pods by their labels."""
        self.config_maps: Collection[NamespacedName, ConfigMap] = Collection(engine)
        self.trust_bundles: Collection[NamespacedName, ClusterTrustBundle] = Collection(engine)
        self.secrets: Collection[NamespacedName, Secret | Broken] = Collection(engine)
        self.time: Collection[str, int] = Collection(engine)
        """The present, in seconds since 1970, as it is told now and then."""
        self.grants: Collection[NamespacedName, ReferenceGrant] = Collection(
            engine, {"permission": lambda _, grant: permissions(grant)}
        )

    def permits(self, one: Permission) -> bool:
        """Tell whether some ReferenceGrant says just this; a read of no more than that."""
        return self.grants.holds("permission", one)


class GatewayCollections:
    """How it is reached: Gateways, routes, and what these refer to."""

    def __init__(self, engine: Engine) -> None:
        """Make empty collections."""
        self.gateway_classes: Collection[NamespacedName, GatewayClass] = Collection(engine)
        self.crds: Collection[NamespacedName, CustomResourceDefinition] = Collection(
            engine, {"gateway api": lambda _, crd: (ALL,) if crd.group in GROUPS else ()}
        )
        self.gateways: Collection[NamespacedName, Gateway] = Collection(
            engine,
            {
                "all": lambda _key, _gateway: (ALL,),
                "secret": lambda _, gateway: named_secrets(gateway),
                "shows": lambda _, one: () if shown_to_backends(one) is None else (ALL,),
                "authority": _asked_by_listeners,
            },
        )
        self.listener_sets: Collection[NamespacedName, ListenerSet] = Collection(
            engine,
            {
                "gateway": lambda _, one: () if one.gateway is None else (one.gateway,),
                "secret": lambda _, one: named_secrets(one),
                "authority": _asked_by_listeners,
            },
        )
        self.ingress_classes: Collection[NamespacedName, IngressClass] = Collection(engine)
        self.ingresses: Collection[NamespacedName, Derived] = Collection(
            engine, {"secret": lambda _, one: () if one.shown is None else (one.shown,)}
        )
        """Those that are ours; what they mean is among Gateways, routes and grants, too."""
        self.routes: Collection[ObjectRef, AnyRoute | Broken] = Collection(
            engine,
            {
                "parent": _route_parents,
                "kind": _route_kinds,
                "hostname": _route_hostnames,
                "part": _route_parts,
                "backend": _route_backends,
                "copied": lambda _, route: (ALL,) if any(_copied_to(route)) else (),
                "authority": _authorities,
                "consumer": _route_consumers,
                "weighted": _weighted,
                "streamed": _streamed,
                "grpc": _grpc,
                "upstream": _upstream,
                "asked": lambda _, route: asked_by(route),
                "session": _sessions,
                "external": _externals,
            },
        )
        self.hostnames: Collection[HostnameAt, bool] = Collection(
            engine, {"parent": _of_parent, "wide": _wide}
        )
        """Those for which there is a route, True each."""
        self.routes.follow("hostname", self._follow_hostname)

    def _follow_hostname(self, one: HostnameAt, there: bool) -> None:  # noqa: FBT001 - Collection.follow
        if there:
            self.hostnames.set(one, there)
        else:
            self.hostnames.remove(one)


class NodeCollections:
    """Who reaches it, from where, and what policies say of that."""

    def __init__(self, engine: Engine) -> None:
        """Make empty collections."""
        self.policies: Collection[NamespacedName, CiliumNetworkPolicy | Broken] = Collection(
            engine, {"namespace": lambda key, _: (key.namespace, ALL)}
        )
        self.workloads: Collection[str, Workload] = Collection(
            engine,
            {
                "identity": lambda _, w: (w.identity,),
                "address": lambda _, w: w.addresses,
                "namespace": lambda _, w: (w.name.namespace,),
                "public": lambda _, w: () if all(map(is_private, w.addresses)) else (ALL,),
            },
        )
        self.ready_pods: Collection[NamespacedName, ReadyPod] = Collection(
            engine,
            {"label": lambda key, pod: ((key.namespace, *label) for label in pod.labels.items())},
        )
        self.identities: Collection[int, Identity] = Collection(
            engine, {"namespace": lambda _, i: (i.namespace, ALL)}
        )
        self.host_network: Collection[NamespacedName, bool] = Collection(engine)
        """Pods that have no addresses of their own: True."""
        self.nodes: Collection[str, ClusterNode] = Collection(
            engine, {"all": lambda _key, _node: (ALL,)}
        )
        self.peers: Collection[str, Peer] = Collection(
            engine,
            {
                "identity": lambda _, p: (p.identity,),
                "address": lambda _, p: p.addresses,
                "public": lambda _, p: () if all(map(is_private, p.addresses)) else (ALL,),
            },
        )
        """By the names of their resources."""


class Database(ServiceCollections, TrustCollections, GatewayCollections, NodeCollections):
    """Collections, each with the indexes that queries read."""

    def __init__(self, settings: Settings) -> None:
        """Make an empty database."""
        self.settings = settings
        self.engine = Engine()
        self.memos: dict[object, dict[Hashable, Node]] = {}
        ServiceCollections.__init__(self, self.engine)
        TrustCollections.__init__(self, self.engine)
        GatewayCollections.__init__(self, self.engine)
        NodeCollections.__init__(self, self.engine)
        self.trust_sources = TrustSources(
            config_map=self.config_maps.get,
            bundle=self.trust_bundles.get,
            system=bool(settings.system_authorities),
        )


def _slice_services(key: NamespacedName, slice_: EndpointSlice) -> tuple[NamespacedName, ...]:
    return (NamespacedName(key.namespace, slice_.service),) if slice_.service else ()


def served_as(kind: ParentKind) -> ParentKind:
    """Return the kind of parent as which *kind* is served: ListenerSets are parts of Gateways."""
    return ParentKind.GATEWAY if kind is ParentKind.LISTENER_SET else kind


def _route_parents(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, NamespacedName]]:
    """Yield the parents that a route names, whether they accept it or not."""
    for parent in parents_of(route):
        yield kind_of(parent), target_of(parent, key.key)


def _route_kinds(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, NamespacedName, str]]:
    """Yield the parents that a route names, each with the kind of the route."""
    for kind, target in _route_parents(key, route):
        yield kind, target, key.kind


def _at_gateways(route: AnyRoute | Broken) -> Iterator[tuple[ParentReference, ParentKind]]:
    """Yield the parentRefs to Gateways and to parts of them, with what they point at."""
    for parent in parents_of(route):
        kind = kind_of(parent)
        if served_as(kind) is ParentKind.GATEWAY:
            yield parent, kind


def _route_hostnames(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[HostnameAt]:
    """Yield what a route writes for listeners."""
    for parent, kind in _at_gateways(route):
        target, section = target_of(parent, key.key), parent.section_name or ""
        for hostname in head_of(route).hostnames or (ANY,):
            yield HostnameAt(kind, target, section, hostname)


def _route_parts(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[Part]:
    """Yield the parts of Gateways that a route belongs to."""
    digest = zlib.crc32(f"{key.kind} {key.key}".encode())
    path = tuple(digest // PARTS**depth % PARTS for depth in range(PART_DEPTH))
    for parent, kind in _at_gateways(route):
        for depth in range(1, PART_DEPTH + 1):
            yield Part(kind, target_of(parent, key.key), path[:depth])


def _of_parent(key: HostnameAt, _: bool) -> Iterator[tuple[ParentKind, NamespacedName]]:  # noqa: FBT001 - the index protocol
    yield key.kind, key.parent


def _wide(key: HostnameAt, _: bool) -> Iterator[tuple[ParentKind, NamespacedName]]:  # noqa: FBT001 - the index protocol
    """Yield the parent of a hostname that stands for several."""
    if key.hostname.startswith("*"):
        yield key.kind, key.parent


def _route_backends(
    key: ObjectRef, route: AnyRoute | Broken
) -> Iterator[tuple[ParentKind, ServicePort]]:
    """Yield the Service ports and XBackends that requests, and copies of them, go to.

    Each with the kinds of parents that they come by.
    """
    kinds = {served_as(kind_of(parent)) for parent in parents_of(route)}
    for ref in (*_asked(route), *_copied_to(route)):
        name = NamespacedName(ref.namespace or key.namespace, ref.name)
        if is_xbackend(ref):
            for kind in kinds:
                yield kind, target_of_xbackend(name)
        elif ref.port is not None:
            for kind in kinds:
                yield kind, ServicePort(name, ref.port)


def _asked(route: AnyRoute | Broken) -> Iterator[BackendObjectReference]:
    """Yield where requests go."""
    for rule in _http_rules(route):
        yield from rule.backend_refs


def _copied_to(route: AnyRoute | Broken) -> Iterator[BackendObjectReference]:
    """Yield where copies of requests go."""
    for rule in _http_rules(route):
        for one in rule.filters:
            if one.request_mirror is not None:
                yield one.request_mirror.backend_ref


def _authorities(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service ports that are asked whether requests may pass."""
    if isinstance(route, IngressRoute) and route.guards.auth is not None:
        yield Role.AUTH, route.guards.auth.target
    for rule in _http_rules(route):
        for one in rule.filters:
            asked = one.external_auth if isinstance(one, HTTPRouteFilter) else None
            if asked is not None:
                yield from _authority(asked, key.namespace)


def _asked_by_listeners(
    key: NamespacedName, holder: ListenerHolder
) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service ports that are asked because of filters of listeners."""
    for listener in holder.spec.listeners:
        for one in filters_of(listener):
            if one.external_auth is not None:
                yield from _authority(one.external_auth, key.namespace)


def _authority(asked: HTTPExternalAuthFilter, namespace: str) -> Iterator[tuple[Role, ServicePort]]:
    """Yield the Service port that a filter in *namespace* asks, if it names one."""
    ref = asked.backend_ref
    if ref.port is not None:
        role = Role.AUTH_GRPC if asked.protocol == "GRPC" else Role.AUTH
        yield role, ServicePort(NamespacedName(ref.namespace or namespace, ref.name), ref.port)


def _route_consumers(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[str]:
    """Yield ALL if the route is written for clients of its own namespace only."""
    for kind, target in _route_parents(key, route):
        if kind is ParentKind.SERVICE and target.namespace != key.namespace:
            yield ALL


def _weighted(_: ObjectRef, route: AnyRoute | Broken) -> Iterator[str]:
    """Yield ALL if some rule shares its requests among several backends."""
    if any(len(rule.backend_refs) > 1 for rule in (*_http_rules(route), *_of_streams(route))):
        yield ALL


def _streamed(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports that a TCPRoute on a Service leads to."""
    for rule in _of_streams(route):
        for ref in rule.backend_refs:
            if ref.port is not None:
                name = NamespacedName(ref.namespace or key.namespace, ref.name)
                yield ServicePort(name, ref.port)


def _of_streams(route: AnyRoute | Broken) -> tuple[StreamRule, ...]:
    """Return the rules of a TCPRoute on a Service, by which requests may go, too."""
    if not isinstance(route, TCPRoute):
        return ()
    on_service = any(kind_of(one) is ParentKind.SERVICE for one in route.spec.parent_refs)
    return route.spec.rules if on_service else ()


def _http_rules(route: AnyRoute | Broken) -> tuple[HTTPRouteRule, ...] | tuple[GRPCRouteRule, ...]:
    """Return the rules of a route for requests; others, and what cannot be read, have none."""
    return () if isinstance(route, StreamRoute | Broken) else route.spec.rules


def _sessions(_: ObjectRef, route: AnyRoute | Broken) -> Iterator[str]:
    """Yield ALL if some rule with several backends keeps sessions."""
    rules = _http_rules(route)
    if any(one.session_persistence is not None and len(one.backend_refs) > 1 for one in rules):
        yield ALL


def _externals(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[NamespacedName]:
    """Yield the XBackends that a route leads to, of whatever kind it is."""
    rules = route.spec.rules if isinstance(route, StreamRoute) else ()
    streams = (ref for rule in rules for ref in rule.backend_refs)
    for ref in (*_asked(route), *_copied_to(route), *streams):
        if is_xbackend(ref):
            yield NamespacedName(ref.namespace or key.namespace, ref.name)


def _trusts_system(_: NamespacedName, backend: XBackend | Broken) -> Iterator[str]:
    """Yield ALL if an XBackend asks for the authorities of the system."""
    if isinstance(backend, XBackend) and backend.trusts_system:
        yield ALL


def _speaks_tls(_: NamespacedName, backend: XBackend | Broken) -> Iterator[str]:
    """Yield ALL if TLS is spoken to an XBackend."""
    if isinstance(backend, XBackend) and backend.spec.tls.mode != "None":
        yield ALL


def _shown(_: NamespacedName, backend: XBackend | Broken) -> Iterator[NamespacedName]:
    """Yield the Secret with the certificate that is shown to an XBackend."""
    name = backend.certificate if isinstance(backend, XBackend) else None
    if name is not None:
        yield name


def _upstream(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports of which the route says how they are met."""
    if isinstance(route, IngressRoute) and route.upstream is not None:
        yield from (target for _, target in _route_backends(key, route))


def _grpc(key: ObjectRef, route: AnyRoute | Broken) -> Iterator[ServicePort]:
    """Yield the Service ports that are asked, and are sent copies, by gRPC only."""
    if isinstance(route, GRPCRoute):
        yield from (target for _, target in _route_backends(key, route))
