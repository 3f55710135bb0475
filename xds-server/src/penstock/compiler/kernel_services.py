"""Queries about Services as the kernel sees them: what it balances, and what it leads to Envoy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import assert_never

import msgspec

from penstock.compiler.addresses import frontends
from penstock.compiler.database import Database
from penstock.compiler.endpoints import Backend, KernelPort, backends, is_kept, reached_on
from penstock.compiler.routing import (
    Clients,
    ParentOf,
    RouteFor,
    clients_of,
    head,
    kinds_on,
    mesh_host,
    routes_on,
    service_attachment,
    translated,
)
from penstock.compiler.server_names import reads_server_names
from penstock.compiler.services import PROTOCOLS, egress_reads_http
from penstock.compiler.shares import shared_out
from penstock.envoy.endpoint import Place
from penstock.envoy.scope import destination, egress_key, server_name_key
from penstock.gatewayapi.attach import STREAM_KINDS, MeshRole, ParentKind, kind_of, target_of
from penstock.gatewayapi.fields import carrier_of
from penstock.gatewayapi.stream_resources import TCPRoute, TLSRoute, UDPRoute
from penstock.incremental.query import query
from penstock.ir.route import Action, Forward, Redirect, Respond, ServiceBackend, ServicePort
from penstock.ir.route import Backend as RouteBackend
from penstock.meta.limits import BACKENDS_JUDGED_AT_CONNECT
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource

BALANCED = frozenset({TCPRoute.kind, UDPRoute.kind})
"""Kinds of routes that the kernel goes by."""
_NOWHERE = {4: ("0.0.0.0", 0), 6: ("::", 0)}  # noqa: S104 - nobody listens there
"""By IP version, where the share of a backend goes that is not there: the kernel refuses it."""


class KernelService(msgspec.Struct, frozen=True, order=True):
    """A Service port for the kernel, redirected to Envoy or not."""

    port: KernelPort
    proxy: bool
    clients: str = ""
    """Namespace of the pods that it is for; "" is for all that have none of their own."""
    routed: bool = False
    """It is balanced by a route."""


def kernel_services(db: Database, port: KernelPort) -> tuple[KernelService, ...]:
    """Return what the kernel is told of a Service port.

    One for all clients, while Envoy can tell them apart; with a route that the kernel goes by, one
    for each namespace of consumers, too.
    """
    target = ServicePort(port.service, port.port)
    here = [one for one in routes_on(db, target) if carrier_of(one[0].kind) == port.protocol]
    if not any(name.kind in STREAM_KINDS for name, _ in here):
        read = port.protocol == "TCP" and egress_reads_http(db, target)
        return (KernelService(port, proxy=read or bool(here)),)
    consumers = sorted({name.namespace for name, role in here if role is MeshRole.CONSUMER})
    return tuple(_for_clients(db, port, clients) for clients in ("", *consumers))


def _for_clients(db: Database, port: KernelPort, clients: str) -> KernelService:
    at = StreamAt(ServicePort(port.service, port.port), Clients(port.protocol, clients))
    route = stream_route_on(db, at)
    proxy = port.protocol == "TCP" and _is_led_to_envoy(db, at, route)
    return KernelService(port, proxy, clients, routed=route is not None and not proxy)


def _is_led_to_envoy(db: Database, at: StreamAt, route: ObjectRef | None) -> bool:
    if route is not None:
        return reads_http(db, route)
    return at.clients in kinds_on(db, at.target) or egress_reads_http(db, at.target)


class KernelServiceOn(msgspec.Struct, frozen=True, order=True):
    """What one node's kernel is told of a Service port."""

    of: KernelService
    node: str


class StreamAt(msgspec.Struct, frozen=True, order=True):
    """A Service port, and for whom."""

    target: ServicePort
    clients: Clients


@query
def stream_route_on(db: Database, key: StreamAt) -> ObjectRef | None:
    """Return the route by which connections or datagrams to a Service port go: the oldest."""
    asking = (
        about
        for name, role in routes_on(db, key.target)
        if name.kind in BALANCED and clients_of(name, role) == key.clients
        for about in (head(db, name),)
        if about is not None
    )
    first = min(asking, key=attrgetter("age"), default=None)
    return None if first is None else ObjectRef(first.kind, first.key.namespace, first.key.name)


@query
def reads_http(db: Database, route: ObjectRef) -> bool:
    """Tell whether some client's egress rules read HTTP on the way to a backend of a TCPRoute."""
    found = translated(db, RouteFor(route, mesh=True))
    return any(
        isinstance(one, ServiceBackend) and egress_reads_http(db, one.target)
        for one in (found.backends if found is not None else ())
    )


def is_sent_requests(db: Database, target: ServicePort) -> bool:
    """Tell whether Envoy has TCPRoutes on Services that lead to a Service port."""
    return any(_is_known_to_envoy(db, name) for name in db.routes.bucket("streamed", target))


@query
def _is_known_to_envoy(db: Database, name: ObjectRef) -> bool:
    """Tell whether some clients of a port that a TCPRoute is on are led to Envoy.

    They need not be its own: the routes of a port are there together.
    """
    route = head(db, name)
    for index, parent in enumerate(route.parents if route is not None else ()):
        on_service = kind_of(parent) is ParentKind.SERVICE
        on = service_attachment(db, ParentOf(name, index)) if on_service else None
        for number in on.ports if on is not None else ():
            port = KernelPort(target_of(parent, name.key), number, "TCP")
            if any(one.proxy for one in kernel_services(db, port)):
                return True
    return False


def differs_by_node(db: Database, of: KernelService) -> bool:
    """Tell whether nodes balance a Service port among endpoints of their own.

    Envoy's endpoints may differ, too; what the kernel judges beforehand are those of all nodes.
    """
    if of.proxy or not db.services.ever("kept"):
        return False
    route = _route_of(db, of)
    if route is None:
        return is_kept(db, of.port.service)
    made = translated(db, RouteFor(route, mesh=True))
    return any(
        isinstance(one, ServiceBackend) and is_kept(db, one.target.service)
        for one in (made.backends if made is not None else ())
    )


def _route_of(db: Database, of: KernelService) -> ObjectRef | None:
    """Return the route that chooses the backends, None if none does."""
    target = ServicePort(of.port.service, of.port.port)
    asked = StreamAt(target, Clients(of.port.protocol, of.clients))
    return stream_route_on(db, asked) if of.routed else None


@query
def kernel_service(db: Database, of: KernelService) -> Resource | None:
    """Return the node.v1.Service of a Service port."""
    return _kernel_service(db, KernelServiceOn(of, ""))


@query
def kernel_service_on(db: Database, at: KernelServiceOn) -> Resource | None:
    """Return the node.v1.Service of a Service port for one node."""
    return _kernel_service(db, at)


def _kernel_service(db: Database, at: KernelServiceOn) -> Resource | None:
    of, port = at.of, at.of.port
    addresses = frontends(db, port.service)
    if not addresses:
        return None
    route = _route_of(db, of)
    made = node_pb2.Service(
        namespace=port.service.namespace,
        name=port.service.name,
        addresses=addresses,
        port=port.port,
        protocol=PROTOCOLS[port.protocol],
        proxy=of.proxy,
        clients=of.clients,
        routed=of.routed,
        stay_seconds=_stay_seconds(db, of),
    )
    for place, weight in _shares(db, at, route).items():
        made.backends.add(address=place[0], port=place[1], weight=weight)
    name = f"{port.service}/{port.port}/{port.protocol.lower()}"
    name = f"{name}/{of.clients}" if of.clients else name
    keys = (egress_key, server_name_key) if _reads_names(db, port) else (egress_key,)
    needs = _scopes(addresses, port.port, keys) if of.proxy else ()
    origins = [Origin.of("Service", port.service), *([Origin(route)] if route is not None else [])]
    return encode_resource(types.SERVICE, name, made, origins, needs)


def _stay_seconds(db: Database, of: KernelService) -> int:
    """Return how long clients stay at an endpoint; where routes or Envoy choose, they do not."""
    service = None if of.proxy or of.routed else db.services.get(of.port.service)
    return service.spec.stay_seconds if service is not None else 0


@query
def loses_clients(db: Database, name: NamespacedName) -> tuple[int, ...]:
    """Return the ports of a Service at whose endpoints clients should stay, and do not."""
    service = db.services.get(name)
    ports = service.spec.ports if service is not None and service.spec.stay_seconds else ()
    return tuple(
        spec.port
        for spec in ports
        for told in kernel_services(db, KernelPort(name, spec.port, spec.protocol))
        if (told.proxy or told.routed) and not told.clients
    )


def _reads_names(db: Database, port: KernelPort) -> bool:
    return reads_server_names(db, ServicePort(port.service, port.port))


def _shares(db: Database, at: KernelServiceOn, route: ObjectRef | None) -> dict[Place, int]:
    """Return the endpoints with their weights."""
    of = at.of
    if route is None:
        found = _judged_backends(db, of) if of.proxy else reached_on(db, of.port, at.node)
        return {(one.address, one.port): 1 for one in found}
    made = translated(db, RouteFor(route, mesh=True))
    shares: dict[Place, int] = {}
    for version in sorted({_version(one) for one in frontends(db, of.port.service)}):
        places = functools.partial(_places, db, at, version)
        shares |= shared_out(made.backends if made is not None else (), places)
    return shares


def _places(
    db: Database, at: KernelServiceOn, version: int, backend: RouteBackend
) -> Sequence[Place]:
    """Return where a virtual address of one IP version leads the share of a backend."""
    if not isinstance(backend, ServiceBackend):
        return (_NOWHERE[version],)
    port = KernelPort(backend.target.service, backend.target.port, at.of.port.protocol)
    reached = reached_on(db, port, at.node)
    found = [(one.address, one.port) for one in reached if _version(one.address) == version]
    return found or (_NOWHERE[version],)


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _judged_backends(db: Database, of: KernelService) -> tuple[Backend, ...]:
    """Return the endpoints that requests to a proxied port may reach.

    A client to whom policy denies all of them is refused when it connects. None at all means that
    Envoy answers: because some request is redirected, or because there are no endpoints, or more
    than the kernel would look at.
    """
    target = ServicePort(of.port.service, of.port.port)
    found: set[Backend] = set()
    for name, role in routes_on(db, target):
        if name.kind == TLSRoute.kind and of.clients in {"", clients_of(name, role).namespace}:
            made = translated(db, RouteFor(name, mesh=True))
            found |= _endpoints_of(db, made.backends if made is not None else ())
    for route in mesh_host(db, target).routes:
        if of.clients not in {"", route.match.namespace}:
            continue
        endpoints = _endpoints(db, route.action)
        if endpoints is None:
            return ()
        found |= endpoints
    return tuple(sorted(found)) if len(found) <= BACKENDS_JUDGED_AT_CONNECT else ()


def _endpoints(db: Database, action: Action) -> set[Backend] | None:
    """Return the endpoints of an action; None if only Envoy can tell who may have its answer.

    That is a redirect, which anybody may have, and what comes from outside of the cluster. What is
    answered with an error by Envoy may as well be refused by the kernel.
    """
    match action:
        case Redirect():
            return None
        case Respond():
            return set()
        case Forward(hosts=hosts) if hosts:
            return None
        case Forward(backends=targets):
            return _endpoints_of(db, targets)
        case _:
            assert_never(action)


def _endpoints_of(db: Database, targets: Iterable[RouteBackend]) -> set[Backend]:
    return {
        backend
        for one in targets
        if isinstance(one, ServiceBackend)
        for backend in backends(db, KernelPort(one.target.service, one.target.port, "TCP"))
    }


def _scopes(
    addresses: Iterable[str], port: int, keys: Iterable[Callable[[str], str]]
) -> Iterator[ResourceName]:
    """Yield what must be there before clients of a port are led to Envoy."""
    for address in addresses:
        for key in keys:
            yield ResourceName(types.SCOPE, key(destination(address, port)))
