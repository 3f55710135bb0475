"""Attach routes to listeners of Gateways and to ports of Services.

Each function decides about one route and one parentRef and reads nothing of the rules, so that a
change of a backend or a weight leaves attachment alone.
Source: Gateway API v1.7, ParentReference, AllowedRoutes; GEP-1294 for Services.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from penstock.core.kinds import Service
from penstock.core.objects import Broken
from penstock.gatewayapi.conditions import fails, holds, listed
from penstock.gatewayapi.fields import (
    CORE_GROUP,
    GATEWAY_GROUP,
    ParentReference,
    carrier_of,
)
from penstock.gatewayapi.generated import is_generated
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.hostname import ANY, covering, intersection, specificity
from penstock.gatewayapi.precedence import Age
from penstock.gatewayapi.resources import (
    FromNamespaces,
    HTTPRoute,
    Listener,
    RouteGroupKind,
    RouteNamespaces,
)
from penstock.gatewayapi.salvage import salvaged_hostnames, salvaged_parents
from penstock.gatewayapi.stream_resources import StreamRoute
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName, ObjectRef

HTTP_PROTOCOLS = ("HTTP", "HTTPS")
SERVED: Mapping[str, tuple[RouteGroupKind, ...]] = {
    **{
        protocol: (RouteGroupKind(kind="HTTPRoute"), RouteGroupKind(kind="GRPCRoute"))
        for protocol in HTTP_PROTOCOLS
    },
    "TLS": (RouteGroupKind(kind="TLSRoute"),),
    "TCP": (RouteGroupKind(kind="TCPRoute"),),
    "UDP": (RouteGroupKind(kind="UDPRoute"),),
}
"""Kinds of routes that a listener of each protocol serves."""
STREAM_KINDS = frozenset({"TLSRoute", "TCPRoute", "UDPRoute"})
"""Kinds of routes that are no HTTP."""
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


class RouteHead(msgspec.Struct, frozen=True, kw_only=True):
    """What attachment needs to know of a route; equal heads attach alike."""

    key: NamespacedName
    kind: str = HTTPRoute.kind
    age: Age
    generation: int
    parents: tuple[ParentReference, ...]
    hostnames: tuple[str, ...]


class ParentKind(enum.StrEnum):
    """What a parentRef points at."""

    GATEWAY = "Gateway"
    LISTENER_SET = "ListenerSet"
    SERVICE = "Service"
    FOREIGN = "foreign"
    """Nothing of ours; its status is none of our business."""


_PARENT_KINDS = {
    (GATEWAY_GROUP, "Gateway"): ParentKind.GATEWAY,
    (GATEWAY_GROUP, "ListenerSet"): ParentKind.LISTENER_SET,
    (CORE_GROUP, "Service"): ParentKind.SERVICE,
}


class AttachedHostname(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """A hostname of a listener for which a route is asked."""

    listener: str
    hostname: str
    """What listener and route have in common; "*" is every host."""
    written: str
    """The route's own hostname that led to it: the narrowest one, it decides precedence."""


class GatewayAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """A route at one Gateway through one parentRef."""

    parent: ParentReference
    hostnames: tuple[AttachedHostname, ...]
    """Empty if the route is not accepted."""
    accepted: Condition

    @property
    def listeners(self) -> tuple[str, ...]:
        """Return the names of the listeners that the route joined, sorted."""
        return tuple(sorted({one.listener for one in self.hostnames}))


class MeshRole(enum.StrEnum):
    """For whom a route on a Service holds (GEP-1294)."""

    PRODUCER = "producer"
    """Written in the Service's namespace: for all clients."""
    CONSUMER = "consumer"
    """Written elsewhere: for clients of the route's namespace, instead of producer routes."""


class ServiceAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """A route at one Service through one parentRef."""

    parent: ParentReference
    role: MeshRole
    ports: tuple[int, ...]
    """Ports of the Service, sorted; empty if the route is not accepted."""
    accepted: Condition


def parents_of(route: HTTPRoute | GRPCRoute | StreamRoute | Broken) -> tuple[ParentReference, ...]:
    """Return the parentRefs of *route*, as far as they can be read."""
    return salvaged_parents(route.raw) if isinstance(route, Broken) else route.spec.parent_refs


def hostnames_of(route: HTTPRoute | GRPCRoute | StreamRoute | Broken) -> tuple[str, ...]:
    """Return the hostnames of *route*, as far as they can be read."""
    if isinstance(route, Broken):
        return salvaged_hostnames(route.kind, route.raw)
    return route.spec.hostnames


def head_of(route: HTTPRoute | GRPCRoute | StreamRoute | Broken) -> RouteHead:
    """Return what attachment needs of *route*; of a broken one, what can still be read."""
    key = route.key
    return RouteHead(
        key=key,
        kind=route.kind,
        age=Age.of(key, route.metadata.creation_timestamp),
        generation=route.metadata.generation,
        parents=parents_of(route),
        hostnames=hostnames_of(route),
    )


def kind_of(parent: ParentReference) -> ParentKind:
    """Return what *parent* points at."""
    return _PARENT_KINDS.get((parent.group, parent.kind), ParentKind.FOREIGN)


def target_of(parent: ParentReference, route: NamespacedName | ObjectRef) -> NamespacedName:
    """Return the object that *parent* of the route *route* points at."""
    return NamespacedName(parent.namespace or route.namespace, parent.name)


class ListenerTable(msgspec.Struct, frozen=True, kw_only=True):
    """Listeners of one object, found by what routes say of them."""

    listeners: tuple[Listener, ...]
    """All of them, in its order."""
    by_name: Mapping[str, Sequence[Listener]]
    by_hostname: Mapping[str, Sequence[Listener]]
    """Those without a hostname are at ANY."""

    @staticmethod
    def of(listeners: Iterable[Listener]) -> ListenerTable:
        """Return the table of *listeners*."""
        every = tuple(listeners)
        by_name: dict[str, list[Listener]] = {}
        by_hostname: dict[str, list[Listener]] = {}
        for one in every:
            by_name.setdefault(one.name, []).append(one)
            by_hostname.setdefault(one.hostname or ANY, []).append(one)
        return ListenerTable(listeners=every, by_name=by_name, by_hostname=by_hostname)

    def chosen(self, parent: ParentReference) -> Iterator[Listener]:
        """Yield the listeners that *parent* names."""
        section = parent.section_name
        every = self.listeners if section is None else self.by_name.get(section, ())
        return (one for one in every if parent.port in (None, one.port))

    def meeting(self, parent: ParentReference, hostnames: Sequence[str]) -> Iterator[Listener]:
        """Yield at least those that *parent* names and that share a host with *hostnames*.

        There may be thousands of listeners: those for other hosts are not looked at.
        """
        names = hostnames or (ANY,)
        if parent.section_name is not None or any(one.startswith("*") for one in names):
            yield from self.chosen(parent)
            return
        for wide in dict.fromkeys(each for one in names for each in covering(one)):
            for one in self.by_hostname.get(wide, ()):
                if parent.port in (None, one.port):
                    yield one


def attach_to_gateway(
    route: RouteHead,
    parent: ParentReference,
    listeners: ListenerTable,
    namespace_labels: Mapping[str, str],
) -> GatewayAttachment:
    """Return the listeners and hostnames that *route* gets through *parent*.

    A listener that is itself not accepted takes part all the same: attachment depends on
    allowedRoutes, parentRef and hostnames only. Whether it serves is in the Gateway's status.

    Args:
        route: the route.
        parent: one of its parentRefs, of ParentKind.GATEWAY or LISTENER_SET.
        listeners: those of the object that *parent* points at.
        namespace_labels: labels of the route's namespace.
    """
    labels = {NAMESPACE_NAME_LABEL: route.key.namespace, **namespace_labels}
    meeting = listeners.meeting(parent, route.hostnames)
    willing = [one for one in meeting if _admits(one, route, parent, labels)]
    hostnames = tuple(sorted(one for each in willing for one in _shared(each, route.hostnames)))
    if not hostnames:
        return _attached_nowhere(route, parent, list(listeners.chosen(parent)), labels)
    joined = listed(sorted({one.listener for one in hostnames}))
    accepted = holds("Accepted", "Accepted", route.generation, f"attached to listener {joined}")
    return GatewayAttachment(parent=parent, hostnames=hostnames, accepted=accepted)


def _attached_nowhere(
    route: RouteHead,
    parent: ParentReference,
    chosen: Sequence[Listener],
    labels: Mapping[str, str],
) -> GatewayAttachment:
    """Return why *route* gets no hostname of the listeners that *parent* names."""
    if not chosen:
        return _refused(route, parent, "NoMatchingParent", _no_listener(parent))
    willing = [one for one in chosen if _admits(one, route, parent, labels)]
    if not willing:
        text = f"allowedRoutes of {_names(chosen)} do not admit {route.kind}s of this namespace"
        return _refused(route, parent, "NotAllowedByListeners", text)
    text = f"no hostname of the route is a hostname of {_names(willing)}"
    return _refused(route, parent, "NoMatchingListenerHostname", text)


def _admits(
    listener: Listener, route: RouteHead, parent: ParentReference, labels: Mapping[str, str]
) -> bool:
    """Return whether *listener*, which *parent* names, allows *route*, whatever its hostnames."""
    own = target_of(parent, route.key).namespace
    return RouteGroupKind(kind=route.kind) in supported_kinds(listener) and welcomes(
        listener.allowed_routes.namespaces, own, route.key.namespace, labels
    )


def attach_to_service(
    route: RouteHead, parent: ParentReference, service: Service | None
) -> ServiceAttachment:
    """Return the ports of *service* that *route* governs through *parent*.

    Args:
        route: the route; its hostnames do not matter on a Service.
        parent: one of its parentRefs, of ParentKind.SERVICE.
        service: what *parent* points at; None if it does not exist.
    """
    target = target_of(parent, route.key)
    carrier = carrier_of(route.kind)
    same = target.namespace == route.key.namespace
    role = MeshRole.PRODUCER if same else MeshRole.CONSUMER

    def refused(reason: str, message: str) -> ServiceAttachment:
        condition = fails("Accepted", reason, route.generation, message)
        return ServiceAttachment(parent=parent, role=role, ports=(), accepted=condition)

    if service is None:
        return refused("NoMatchingParent", f"there is no Service {target}")
    if is_generated(service.metadata.labels):
        text = f"Service {target} leads to a Gateway; name the Gateway as the parent"
        return refused("UnsupportedValue", text)
    if service.headless or service.spec.type == "ExternalName":
        what = "headless" if service.headless else "of type ExternalName"
        text = f"Service {target} is {what}; only one with a cluster IP can be a parent"
        return refused("UnsupportedValue", text)
    ports = tuple(
        sorted(
            port.port
            for port in service.spec.ports
            if port.protocol == carrier
            and parent.port in (None, port.port)
            and parent.section_name in (None, port.name)
        )
    )
    if not ports:
        return refused("NoMatchingParent", f"Service {target} has no such {carrier} port")
    text = f"{role} route of port {', '.join(map(str, ports))}"
    return ServiceAttachment(
        parent=parent,
        role=role,
        ports=ports,
        accepted=holds("Accepted", "Accepted", route.generation, text),
    )


def supported_kinds(listener: Listener) -> tuple[RouteGroupKind, ...]:
    """Return the kinds of routes that *listener* allows and that Penstock serves there."""
    wanted = listener.allowed_routes.kinds
    served = SERVED.get(listener.protocol, ())
    return tuple(one for one in served if not wanted or one in wanted)


def welcomes(rule: RouteNamespaces, own: str, namespace: str, labels: Mapping[str, str]) -> bool:
    """Return whether *rule* of an object in namespace *own* admits routes of *namespace*."""
    match rule.from_:
        case FromNamespaces.ALL:
            return True
        case FromNamespaces.SAME:
            return namespace == own
        case FromNamespaces.SELECTOR:
            return rule.selector is not None and rule.selector.matches(labels)
        case FromNamespaces.NONE:
            return False


def refused_by_gateway(route: RouteHead, parent: ParentReference) -> GatewayAttachment:
    """Return that *parent* is a ListenerSet whose Gateway does not let it in."""
    text = f"the Gateway does not let ListenerSet {parent.name} in"
    return _refused(route, parent, "NotAllowedByListeners", text)


def _refused(
    route: RouteHead, parent: ParentReference, reason: str, message: str
) -> GatewayAttachment:
    condition = fails("Accepted", reason, route.generation, message)
    return GatewayAttachment(parent=parent, hostnames=(), accepted=condition)


def _no_listener(parent: ParentReference) -> str:
    named = "" if parent.section_name is None else f" named {parent.section_name}"
    port = "" if parent.port is None else f" on port {parent.port}"
    return f"{parent.kind} {parent.name} has no listener{named}{port}"


def _names(listeners: Iterable[Listener]) -> str:
    return f"listener {listed([one.name for one in listeners])}"


def _shared(listener: Listener, hostnames: tuple[str, ...]) -> list[AttachedHostname]:
    """Return what *listener* and *hostnames* have in common, once each."""
    narrowest: dict[str, str] = {}
    for written in hostnames or (ANY,):
        common = intersection(listener.hostname or ANY, written)
        if common is not None:
            known = narrowest.get(common, written)
            narrowest[common] = max(known, written, key=specificity)
    return [
        AttachedHostname(listener=listener.name, hostname=common, written=written)
        for common, written in narrowest.items()
    ]
