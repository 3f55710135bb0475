"""Queries about routes: what each says, where it attaches, and the routes of one scope."""

from __future__ import annotations

import msgspec

from penstock.compiler.backend_traffic import any_policies, retry_budget, session_of
from penstock.compiler.database import Database
from penstock.compiler.selected import external_place
from penstock.gatewayapi.attach import (
    GatewayAttachment,
    ListenerTable,
    MeshRole,
    ParentKind,
    RouteHead,
    ServiceAttachment,
    attach_to_gateway,
    attach_to_service,
    head_of,
    kind_of,
    refused_by_gateway,
    target_of,
)
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.contest import first_kind, settled_on_service
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.fields import carrier_of
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.merge import MeshRoute, RankedRoute, ranked, service_virtual_host
from penstock.gatewayapi.merged import lets_in, place_of
from penstock.gatewayapi.resources import Listener
from penstock.gatewayapi.routes import translate
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.incremental.query import query
from penstock.ingress.placed import as_ingress
from penstock.ir.external import Place
from penstock.ir.route import (
    Forward,
    Respond,
    Route,
    RouteMatch,
    ServiceBackend,
    ServicePort,
    VirtualHost,
)
from penstock.ir.session import Session
from penstock.meta.names import NamespacedName, ObjectRef, Origin


class RouteFor(msgspec.Struct, frozen=True, order=True):
    """A route as one kind of parent sees it: grants are asked for at Gateways only."""

    route: ObjectRef
    mesh: bool


class RankedFor(msgspec.Struct, frozen=True, order=True):
    """The routes of an object, asked for by one of its hostnames."""

    route: ObjectRef
    written: str


class Clients(msgspec.Struct, frozen=True, order=True):
    """For whom a route on a port of a Service holds."""

    carrier: str = "TCP"
    """Or "UDP": ports of the same number have nothing to do with each other."""
    namespace: str = ""
    """Of consumers; "" is all that have no routes of their own."""


class ParentOf(msgspec.Struct, frozen=True, order=True):
    """One parentRef of a route, by its place in the list."""

    route: ObjectRef
    index: int


@query
def head(db: Database, name: ObjectRef) -> RouteHead | None:
    """Return what attachment needs of a route."""
    route = db.routes.get(name)
    return None if route is None else head_of(route)


@query
def translated(db: Database, key: RouteFor) -> TranslatedRoute | None:
    """Return the rules of a route, its backends resolved."""
    route = db.routes.get(key.route)
    if route is None:
        return None
    return as_ingress(route, translate(route, references(db, mesh=key.mesh)))


def references(db: Database, *, mesh: bool = False) -> References:
    """Return how references of one object are looked up; *mesh* as for `References`."""

    def place(name: NamespacedName) -> Place | Fault | None:
        return external_place(db, name)

    found = References(
        service=db.services.get,
        permits=db.permits,
        external=place,
        mesh=mesh,
    )
    if not any_policies(db, None):
        return found

    def session(name: NamespacedName) -> Session | None:
        return session_of(db, name)

    def few_retries(name: NamespacedName) -> bool:
        return retry_budget(db, name) is not None

    return msgspec.structs.replace(found, session=session, few_retries=few_retries)


@query
def namespace_labels(db: Database, name: str) -> dict[str, str]:
    """Return the labels of a namespace; one that nobody declared has none."""
    namespace = db.namespaces.get(NamespacedName("", name))
    return {} if namespace is None else namespace.metadata.labels


@query
def _own_listeners(db: Database, holder: ObjectRef) -> tuple[Listener, ...] | None:
    """Return the listeners of a Gateway or a ListenerSet; None if it is not there."""
    of_set = holder.kind == ListenerSet.kind
    found = db.listener_sets.get(holder.key) if of_set else db.gateways.get(holder.key)
    return None if found is None else found.spec.listeners


@query
def _listener_table(db: Database, holder: ObjectRef) -> ListenerTable | None:
    """Return the same, to look them up."""
    found = _own_listeners(db, holder)
    return None if found is None else ListenerTable.of(found)


@query
def _is_let_in(db: Database, name: NamespacedName) -> bool | None:
    """Return whether the Gateway of a ListenerSet lets it in; None if either is not there."""
    added = db.listener_sets.get(name)
    gateway = db.gateways.get(added.gateway) if added is not None and added.gateway else None
    if added is None or gateway is None:
        return None
    return lets_in(gateway, added, namespace_labels(db, name.namespace))


@query
def gateway_attachment(db: Database, key: ParentOf) -> GatewayAttachment | None:
    """Return where one parentRef wants to attach; None if there is no such Gateway."""
    route = head(db, key.route)
    if route is None:
        return None
    parent = route.parents[key.index]
    target = target_of(parent, route.key)
    holder = ObjectRef(parent.kind, target.namespace, target.name)
    of_set = kind_of(parent) is ParentKind.LISTENER_SET
    let_in = _is_let_in(db, target) if of_set else True
    if let_in is False:
        return refused_by_gateway(route, parent)
    table = _listener_table(db, holder) if let_in else None
    if table is None:
        return None
    labels = namespace_labels(db, route.key.namespace)
    found = attach_to_gateway(route, parent, table, labels)
    return _placed(found, holder) if of_set else found


def _placed(found: GatewayAttachment, holder: ObjectRef) -> GatewayAttachment:
    """Return *found* at a ListenerSet with its listeners named as among all of the Gateway."""
    hostnames = tuple(
        msgspec.structs.replace(one, listener=place_of(holder, one.listener))
        for one in found.hostnames
    )
    return msgspec.structs.replace(found, hostnames=hostnames)


def _on_service(db: Database, route: RouteHead, index: int) -> ServiceAttachment:
    """Return which ports one parentRef to a Service wants to govern."""
    parent = route.parents[index]
    return attach_to_service(route, parent, db.services.get(target_of(parent, route.key)))


@query
def kinds_on(db: Database, target: ServicePort) -> dict[Clients, str]:
    """Return the kind of routes that governs a Service port, for each group of clients."""
    found: dict[Clients, set[str]] = {}
    for name in db.routes.bucket("parent", (ParentKind.SERVICE, target.service)):
        route = head(db, name)
        for index, parent in enumerate(route.parents if route is not None else ()):
            if route is not None and kind_of(parent) is ParentKind.SERVICE:
                wanted = _on_service(db, route, index)
                if target.port in wanted.ports:
                    found.setdefault(clients_of(name, wanted.role), set()).add(name.kind)
    return {group: first_kind(kinds) for group, kinds in found.items()}


def clients_of(route: ObjectRef, role: MeshRole) -> Clients:
    """Return for whom a route on a Service holds."""
    namespace = route.namespace if role is MeshRole.CONSUMER else ""
    return Clients(carrier_of(route.kind), namespace)


@query
def service_attachment(db: Database, key: ParentOf) -> ServiceAttachment | None:
    """Return which ports one parentRef to a Service governs."""
    route = head(db, key.route)
    if route is None:
        return None
    wanted = _on_service(db, route, key.index)
    service = target_of(wanted.parent, route.key)
    if len(db.routes.bucket("parent", (ParentKind.SERVICE, service))) == 1:
        return wanted  # nobody is there to lose a port to
    group = clients_of(key.route, wanted.role)
    lost = {
        port: kind
        for port in wanted.ports
        if (kind := kinds_on(db, ServicePort(service, port))[group]) != route.kind
    }
    return settled_on_service(route, wanted, lost)


@query
def routes_on(db: Database, target: ServicePort) -> tuple[tuple[ObjectRef, MeshRole], ...]:
    """Return the routes that govern a Service port, with their roles."""
    found: list[tuple[ObjectRef, MeshRole]] = []
    for name in db.routes.bucket("parent", (ParentKind.SERVICE, target.service)):
        route = head(db, name)
        for index, parent in enumerate(route.parents if route is not None else ()):
            if kind_of(parent) is ParentKind.SERVICE:
                attached = service_attachment(db, ParentOf(name, index))
                if attached is not None and target.port in attached.ports:
                    found.append((name, attached.role))
    return tuple(dict.fromkeys(found))


@query
def ranked_for(db: Database, key: RankedFor) -> tuple[RankedRoute, ...]:
    """Return the routes of one object at Gateways, in order of precedence."""
    route = translated(db, RouteFor(key.route, mesh=False))
    return () if route is None else ranked(route, key.written)


def _ranked_on_services(db: Database, name: ObjectRef) -> tuple[RankedRoute, ...]:
    """Return the routes of one object on Services, in order of precedence."""
    route = translated(db, RouteFor(name, mesh=True))
    return () if route is None else ranked(route)


@query
def mesh_host(db: Database, target: ServicePort) -> VirtualHost:
    """Return the routes of a Service port; without any, all goes to the Service.

    Namespaces with routes of their own for it go by those alone; what they do not match is
    answered with 404.
    """
    found = [
        MeshRoute(namespace=name.namespace, role=role, ranked=_ranked_on_services(db, name))
        for name, role in routes_on(db, target)
        if carrier_of(name.kind) == "TCP"
    ]
    consumers = {one.namespace for one in found if one.role is MeshRole.CONSUMER}
    routes: list[Route] = []
    for namespace in sorted(consumers):
        own = service_virtual_host(found, namespace)
        routes.extend(_for_clients_of(namespace, route) for route in (own.routes if own else ()))
        routes.append(_nothing_else(target, namespace))
    common = service_virtual_host(found, None)
    routes.extend(common.routes if common is not None else (_to_itself(db, target),))
    return VirtualHost(hostname="*", routes=tuple(routes))


def _for_clients_of(namespace: str, route: Route) -> Route:
    match = msgspec.structs.replace(route.match, namespace=namespace)
    return msgspec.structs.replace(route, match=match)


def _nothing_else(target: ServicePort, namespace: str) -> Route:
    return Route(
        name=f"service/{target.service}/{target.port}/{namespace}",
        match=RouteMatch(namespace=namespace),
        action=Respond(status=404),
        origin=Origin.of("Service", target.service),
    )


def _to_itself(db: Database, target: ServicePort) -> Route:
    name = target.service
    origin = Origin.of("Service", name)
    backend = ServiceBackend(target=target, session=session_of(db, name), origin=origin)
    action = Forward(backends=(backend,))
    place = f"service/{name}/{target.port}"
    return Route(name=place, match=RouteMatch(), action=action, origin=origin)
