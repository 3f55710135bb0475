"""Queries about the listeners of Gateways, those of ListenerSets among them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import ours
from penstock.compiler.routing import ParentOf, gateway_attachment, head, namespace_labels
from penstock.gatewayapi import merged
from penstock.gatewayapi.attach import (
    GatewayAttachment,
    ParentKind,
    RouteHead,
    kind_of,
    target_of,
)
from penstock.gatewayapi.client_certificates import NO_CHECKS, ClientChecks, client_checks
from penstock.gatewayapi.contest import Owner, Place, owners, settled
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.resources import Gateway, ReferenceGrant
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef


@query
def parent_of(db: Database, name: NamespacedName) -> Gateway | None:
    """Return the Gateway of a ListenerSet if it is ours, whether it lets it in or not."""
    added = db.listener_sets.get(name)
    gateway = added.gateway if added is not None else None
    return None if gateway is None else ours(db, gateway)


@query
def is_let_in(db: Database, name: NamespacedName) -> bool:
    """Tell whether the Gateway of a ListenerSet is ours and takes its listeners."""
    added, gateway = db.listener_sets.get(name), parent_of(db, name)
    if added is None or gateway is None:
        return False
    return merged.lets_in(gateway, added, namespace_labels(db, name.namespace))


@query
def sets_of(db: Database, gateway: NamespacedName) -> tuple[ListenerSet, ...]:
    """Return the ListenerSets that a Gateway lets in, sorted by name."""
    names = db.listener_sets.bucket("gateway", gateway)
    found = (db.listener_sets.get(name) for name in names if is_let_in(db, name))
    return tuple(one for one in found if one is not None)


@query
def checks_of_clients(db: Database, gateway: NamespacedName) -> ClientChecks:
    """Return how clients of a Gateway are checked."""
    found = ours(db, gateway)

    def grants(namespace: str) -> list[ReferenceGrant]:
        names = db.grants.bucket("namespace", namespace)
        return [grant for name in names if (grant := db.grants.get(name)) is not None]

    return NO_CHECKS if found is None else client_checks(found, db.config_maps.get, grants)


@query
def placed_listeners(db: Database, gateway: NamespacedName) -> tuple[PlacedListener, ...]:
    """Return all listeners of a Gateway of ours."""
    found = ours(db, gateway)
    if found is None:
        return ()
    return merged.merged(found, sets_of(db, gateway), checks_of_clients(db, gateway))


@query
def served_listeners(db: Database, gateway: NamespacedName) -> tuple[PlacedListener, ...]:
    """Return the listeners of a Gateway that get traffic."""
    found = ours(db, gateway)
    return () if found is None else merged.served(found, placed_listeners(db, gateway))


class Attached(msgspec.Struct, frozen=True):
    """A route and where one of its parentRefs attaches."""

    route: ObjectRef
    head: RouteHead
    found: GatewayAttachment


def attachments(db: Database, gateway: NamespacedName) -> Iterator[Attached]:
    """Yield all attachments to a Gateway and to the ListenerSets that it lets in."""
    owned = owners_at(db, gateway)
    for one in _wanted(db, gateway):
        if not owned:
            yield one
        else:
            yield Attached(one.route, one.head, settled(one.head, one.found, owned))


@query
def settled_attachment(db: Database, key: ParentOf) -> GatewayAttachment | None:
    """Return where one parentRef attaches; None if there is no such Gateway."""
    route, found = head(db, key.route), gateway_attachment(db, key)
    if route is None or found is None or not found.hostnames:
        return found
    target = target_of(found.parent, route.key)
    if kind_of(found.parent) is ParentKind.LISTENER_SET:
        gateway = parent_of(db, target)
        return found if gateway is None else settled(route, found, owners_at(db, gateway.key))
    return settled(route, found, owners_at(db, target))


@query
def owners_at(db: Database, gateway: NamespacedName) -> dict[Place, Owner]:
    """Return who has the hostnames of a Gateway for which several kinds of routes ask."""
    parents = _parents(db, gateway)
    if len({name.kind for one in parents for name in db.routes.bucket("parent", one)}) < 2:  # noqa: PLR2004 - a contest takes two
        return {}
    return owners((one.head, one.found) for one in _wanted(db, gateway))


def _parents(
    db: Database, gateway: NamespacedName
) -> tuple[tuple[ParentKind, NamespacedName], ...]:
    sets = ((ParentKind.LISTENER_SET, one.key) for one in sets_of(db, gateway))
    return ((ParentKind.GATEWAY, gateway), *sets)


def _wanted(db: Database, gateway: NamespacedName) -> Iterator[Attached]:
    for parent in _parents(db, gateway):
        for name in db.routes.bucket("parent", parent):
            route = head(db, name)
            for index, given in enumerate(route.parents if route is not None else ()):
                if route is not None and (kind_of(given), target_of(given, route.key)) == parent:
                    found = gateway_attachment(db, ParentOf(name, index))
                    if found is not None:
                        yield Attached(name, route, found)
