"""The inputs of all queries: collections of objects, workloads and identities."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import msgspec

from penstock.compiler import indexes
from penstock.compiler.indexes import ALL, HostnameAt
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
from penstock.core.objects import Broken, ObjectMeta
from penstock.core.service_cidrs import ServiceCIDR
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy, services_of_broken
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.fields import LocalObjectReference
from penstock.gatewayapi.grants import Permission, permissions
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listener_tls import named_secrets, shown_to_backends
from penstock.gatewayapi.requested_addresses import may_be_inside
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.gatewayapi.routes import AnyRoute
from penstock.gatewayapi.shadows import asked_by
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.gatewayapi.trust import TrustSources
from penstock.gatewayapi.versions import GROUPS
from penstock.incremental.collection import Collection, IndexFunction
from penstock.incremental.engine import Engine, Node
from penstock.ingress.derive import Derived
from penstock.ingress.resources import IngressClass
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.meta.networks import is_private
from penstock.policy.resources import CiliumNetworkPolicy


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
    unheard: bool
    """Nobody hears of its node: it is sent to where there is no other."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that are no workload's but have a reserved identity: a node, or a pod of Envoy."""

    origin: Origin
    node: str
    addresses: tuple[str, ...]
    identity: int


class ClusterNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node, as far as somebody depends on it: nothing of it changes with a heartbeat."""

    ready: bool
    since: int
    """When that became so, seconds since 1970; 0 if that is not known."""
    addresses: tuple[str, ...]
    """By which other nodes reach it."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What all workloads with one identity have in common."""

    labels: dict[str, str]
    """Identity labels, named with their source: "k8s:app"."""
    namespace: str
    ports: tuple[tuple[str, int], ...]
    """Named container ports of any of them."""


def lasting(metadata: ObjectMeta) -> ObjectMeta:
    """Return what of *metadata* of Gateways and ListenerSets means something to what they serve."""
    return msgspec.structs.replace(metadata, resource_version="", labels={}, annotations={})


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
                "kept": lambda _, s: (ALL,) if s.spec.internal_traffic_policy == "Local" else (),
            },
        )
        self.slices: Collection[NamespacedName, EndpointSlice] = Collection(
            engine, {"service": indexes.slice_services}
        )
        self.refused: Collection[ObjectRef, str] = Collection(engine)
        """Objects that should be made or changed and that the API server does not take, and why."""


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
                "told": lambda _, policy: (one.service for one in policy.collectors),
            },
        )
        self.broken_policies: Collection[ObjectRef, tuple[LocalObjectReference, ...]] = Collection(
            engine
        )
        """Targets of policies for Gateways and Services of which no more can be read."""
        self.externals: Collection[NamespacedName, XBackend | Broken] = Collection(
            engine,
            {
                "system": indexes.trusts_system,
                "secret": indexes.shown,
                "tls": indexes.speaks_tls,
            },
        )
        """Places outside of the cluster, and pods by their labels."""
        self.config_maps: Collection[NamespacedName, ConfigMap | Broken] = Collection(engine)
        self.trust_bundles: Collection[NamespacedName, ClusterTrustBundle | Broken] = Collection(
            engine
        )
        self.secrets: Collection[NamespacedName, Secret | Broken] = Collection(engine)
        self.time: Collection[str, int] = Collection(engine)
        """The present, in seconds since 1970, as it is told now and then."""
        self.grants: Collection[NamespacedName, ReferenceGrant] = Collection(
            engine, {"permission": lambda _, grant: permissions(grant)}
        )

    def permits(self, one: Permission) -> bool:
        """Tell whether some ReferenceGrant says just this; a read of no more than that."""
        return self.grants.holds("permission", one)


_ROUTE_INDEXES: Mapping[str, IndexFunction[ObjectRef, AnyRoute | Broken]] = {
    "parent": indexes.route_parents,
    "kind": indexes.route_kinds,
    "hostname": indexes.route_hostnames,
    "part": indexes.route_parts,
    "backend": indexes.route_backends,
    "used": indexes.used,
    "copied": lambda _, route: (ALL,) if indexes.copied_to(route) else (),
    "authority": indexes.authorities,
    "consumer": indexes.route_consumers,
    "weighted": indexes.weighted,
    "streamed": indexes.streamed,
    "passed": indexes.passed,
    "passing": indexes.passing,
    "grpc": indexes.grpc,
    "upstream": indexes.upstream,
    "asked": lambda _, route: asked_by(route),
    "session": indexes.sessions,
    "external": indexes.externals,
}


class GatewayCollections:
    """How it is reached: Gateways, routes, and what these refer to."""

    def __init__(self, engine: Engine) -> None:
        """Make empty collections."""
        self.gateway_classes: Collection[NamespacedName, GatewayClass] = Collection(engine)
        self.crds: Collection[NamespacedName, CustomResourceDefinition] = Collection(
            engine, {"gateway api": lambda _, crd: (ALL,) if crd.group in GROUPS else ()}
        )
        self.service_cidrs: Collection[NamespacedName, ServiceCIDR] = Collection(
            engine, {"all": lambda _key, _one: (ALL,)}
        )
        self.gateways: Collection[NamespacedName, Gateway] = Collection(
            engine,
            {
                "all": lambda _key, _gateway: (ALL,),
                "secret": lambda _, gateway: named_secrets(gateway),
                "shows": lambda _, one: () if shown_to_backends(one) is None else (ALL,),
                "authority": indexes.asked_by_listeners,
                "used": indexes.used_by_listeners,
                "inside": lambda _, one: (ALL,) if may_be_inside(one.spec) else (),
            },
        )
        """Without their statuses, which are written whenever a route comes or goes."""
        self.held: Collection[NamespacedName, tuple[str, ...]] = Collection(engine)
        """Addresses that Gateways have, as their statuses say."""
        self.listener_sets: Collection[NamespacedName, ListenerSet] = Collection(
            engine,
            {
                "gateway": lambda _, one: () if one.gateway is None else (one.gateway,),
                "secret": lambda _, one: named_secrets(one),
                "authority": indexes.asked_by_listeners,
                "used": indexes.used_by_listeners,
            },
        )
        self.broken_holders: Collection[ObjectRef, NamespacedName] = Collection(engine)
        """The class of Gateways, and the Gateway of ListenerSets, of which no more can be read."""
        self.ingress_classes: Collection[NamespacedName, IngressClass] = Collection(engine)
        self.ingresses: Collection[NamespacedName, Derived] = Collection(
            engine, {"secret": lambda _, one: () if one.shown is None else (one.shown,)}
        )
        """Those that are ours; what they mean is among Gateways, routes and grants, too."""
        self.routes: Collection[ObjectRef, AnyRoute | Broken] = Collection(engine, _ROUTE_INDEXES)
        self.hostnames: Collection[HostnameAt, bool] = Collection(
            engine, {"parent": indexes.of_parent, "wide": indexes.wide}
        )
        """Those for which there is a route, True each."""
        self.routes.follow("hostname", self._follow_hostname)

    def put_gateway(self, key: NamespacedName, gateway: Gateway | None) -> None:
        """Store a Gateway, or that there is none; one that has only a new status is the same."""
        if gateway is None:
            self.gateways.remove(key)
            self.held.remove(key)
            return
        metadata = lasting(gateway.metadata)
        self.gateways.set(key, msgspec.structs.replace(gateway, metadata=metadata, status=None))
        self.held.set(key, gateway.assigned)

    def put_listener_set(self, key: NamespacedName, added: ListenerSet | None) -> None:
        """Store a ListenerSet, or that there is none."""
        if added is None:
            self.listener_sets.remove(key)
            return
        metadata = lasting(added.metadata)
        self.listener_sets.set(key, msgspec.structs.replace(added, metadata=metadata))

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
