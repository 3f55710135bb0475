"""Queries about the listeners of Gateways, those of ListenerSets among them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of, ours
from penstock.compiler.routing import namespace_labels
from penstock.gatewayapi import merged
from penstock.gatewayapi.client_certificates import NO_CHECKS, ClientChecks, client_checks
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.resources import Gateway
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef


class ListenerOf(msgspec.Struct, frozen=True, order=True):
    """A listener of a Gateway, by its place among all of them."""

    gateway: NamespacedName
    listener: str


@query
def parent_of(db: Database, name: NamespacedName) -> Gateway | None:
    """Return the Gateway of a ListenerSet if it is ours, whether it lets it in or not."""
    added = db.listener_sets.get(name)
    gateway = added.gateway if added is not None else None
    return None if gateway is None else ours(db, gateway)


@query
def gateway_of(db: Database, name: NamespacedName) -> NamespacedName | None:
    """Return the name of the Gateway of a ListenerSet if it is ours, and nothing more of it."""
    gateway = parent_of(db, name)
    return None if gateway is None else gateway.key


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
    return NO_CHECKS if found is None else client_checks(found, db.trust_sources, db.permits)


@query
def placed_listeners(db: Database, gateway: NamespacedName) -> tuple[PlacedListener, ...]:
    """Return all listeners of a Gateway of ours."""
    found = ours(db, gateway)
    if found is None:
        return ()
    return merged.merged(found, sets_of(db, gateway), checks_of_clients(db, gateway))


@query
def _by_holder(db: Database, gateway: NamespacedName) -> dict[ObjectRef, list[PlacedListener]]:
    found: dict[ObjectRef, list[PlacedListener]] = {}
    for one in placed_listeners(db, gateway):
        found.setdefault(one.holder, []).append(one)
    return found


def placed_of(db: Database, gateway: NamespacedName, holder: ObjectRef) -> Sequence[PlacedListener]:
    """Return the listeners that a Gateway has of *holder*, in its order."""
    return _by_holder(db, gateway).get(holder, ())


@query
def served_listeners(db: Database, gateway: NamespacedName) -> tuple[PlacedListener, ...]:
    """Return the listeners of a Gateway that get traffic."""
    found = ours(db, gateway)
    if found is None or fault_of(db, gateway) is not None:
        return ()
    return merged.served(placed_listeners(db, gateway))


@query
def _by_place(db: Database, gateway: NamespacedName) -> dict[str, PlacedListener]:
    """Return all listeners of a Gateway of ours by their places."""
    return {one.place: one for one in placed_listeners(db, gateway)}


@query
def placed_at(db: Database, key: ListenerOf) -> PlacedListener | None:
    """Return one listener of a Gateway of ours; what depends on it does not on the others."""
    return _by_place(db, key.gateway).get(key.listener)
