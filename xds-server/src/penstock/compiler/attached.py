"""Queries about who asks for what at the listeners of a Gateway, hostname by hostname.

None looks at all routes of a Gateway: a route that comes or goes costs what asks for the same
hostnames, and the part of the routes in which it is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.indexes import PART_DEPTH, PARTS, HostnameAt, Part
from penstock.compiler.merged_listeners import ListenerOf, gateway_of, placed_at
from penstock.compiler.portions import CROWD, portions
from penstock.compiler.routing import ParentOf, RouteFor, gateway_attachment, head, translated
from penstock.gatewayapi.attach import (
    AttachedHostname,
    GatewayAttachment,
    ParentKind,
    kind_of,
    target_of,
)
from penstock.gatewayapi.contest import Owner, Place, owner_of, settled
from penstock.gatewayapi.hostname import ANY, covering
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.routes import ROUTE_KINDS
from penstock.gatewayapi.status import counted_listeners
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef

Parent = tuple[ParentKind, NamespacedName]


class PlaceAt(msgspec.Struct, frozen=True, order=True):
    """A hostname at a listener of a Gateway."""

    gateway: NamespacedName
    listener: str
    """Its place among all listeners."""
    hostname: str
    """What the listener and those who ask have in common."""


class Claim(msgspec.Struct, frozen=True, order=True):
    """A route that asks for a hostname at a listener."""

    route: ObjectRef
    written: str
    """The route's own hostname that led to it."""


class RouteAt(msgspec.Struct, frozen=True):
    """A route at a Gateway or a ListenerSet."""

    route: ObjectRef
    kind: ParentKind
    parent: NamespacedName


def parent_at(placed: PlacedListener) -> Parent:
    """Return what routes name as their parent to come to a listener."""
    own = placed.holder.kind == ParentKind.GATEWAY
    return ParentKind.GATEWAY if own else ParentKind.LISTENER_SET, placed.holder.key


@query
def wanted(db: Database, key: PlaceAt) -> tuple[Claim, ...]:
    """Return who asks for a hostname at a listener, sorted."""
    placed = placed_at(db, ListenerOf(key.gateway, key.listener))
    if placed is None:
        return ()
    parent = parent_at(placed)
    # What a listener has in common with a wider hostname is its own one.
    own = placed.own.hostname or ANY
    asking: dict[ObjectRef, None] = {}
    for written in covering(own) if own == key.hostname else (key.hostname,):
        for section in ("", placed.own.name):
            asked = db.routes.bucket("hostname", HostnameAt(*parent, section, written))
            asking |= dict.fromkeys(asked)
    if len(asking) < CROWD:
        return tuple(sorted(_claims(db, asking, key, parent)))
    some = (
        _claims_of(db, Asking(key, parent, routes))
        for routes in portions(asking, lambda one: one.name)
    )
    return tuple(sorted((claim for claims in some for claim in claims), key=_order))


def _order(claim: Claim) -> str:
    """Return what sorts as claims do; of thousands, texts are compared faster."""
    route = claim.route
    return f"{route.kind}\0{route.namespace}\0{route.name}\0{claim.written}"


class Asking(msgspec.Struct, frozen=True):
    """Some of the routes that may ask for a hostname at a listener."""

    place: PlaceAt
    parent: Parent
    routes: tuple[ObjectRef, ...]


@query
def _claims_of(db: Database, key: Asking) -> tuple[Claim, ...]:
    """Return the claims of some routes, sorted."""
    return tuple(sorted(_claims(db, key.routes, key.place, key.parent)))


def _claims(
    db: Database, routes: Iterable[ObjectRef], place: PlaceAt, parent: Parent
) -> set[Claim]:
    return {
        Claim(route, one.written)
        for route in routes
        for one in _hostnames(db, route, parent)
        if (one.listener, one.hostname) == (place.listener, place.hostname)
    }


def _hostnames(db: Database, route: ObjectRef, parent: Parent) -> Iterator[AttachedHostname]:
    """Yield what a route gets at a parent unless another kind has it, by whatever parentRef."""
    for key in _parent_refs(db, route, parent):
        found = gateway_attachment(db, key)
        if found is not None:
            yield from found.hostnames


def _parent_refs(db: Database, name: ObjectRef, parent: Parent) -> Iterator[ParentOf]:
    route = head(db, name)
    for index, given in enumerate(route.parents if route is not None else ()):
        if (kind_of(given), target_of(given, name.key)) == parent:
            yield ParentOf(name, index)


@query
def _several_kinds(db: Database, parent: Parent) -> bool:
    """Tell whether routes of more than one kind name a parent, so that they may contest."""
    return sum(db.routes.holds("kind", (*parent, kind)) for kind in sorted(ROUTE_KINDS)) > 1


@query
def _owner_at(db: Database, key: PlaceAt) -> Owner | None:
    heads = (head(db, claim.route) for claim in wanted(db, key))
    return owner_of(one for one in heads if one is not None)


def owner_at(db: Database, key: PlaceAt) -> Owner | None:
    """Return whose kind has a hostname of a listener; None if only one kind asks for it."""
    placed = placed_at(db, ListenerOf(key.gateway, key.listener))
    contested = placed is not None and _several_kinds(db, parent_at(placed))
    return _owner_at(db, key) if contested else None


def claims_at(db: Database, key: PlaceAt) -> tuple[Claim, ...]:
    """Return who has a hostname at a listener, sorted: routes of one kind."""
    asking = wanted(db, key)
    owner = _owner_at(db, key) if len({claim.route.kind for claim in asking}) > 1 else None
    if owner is None:
        return asking
    return tuple(claim for claim in asking if claim.route.kind == owner.kind)


@query
def settled_attachment(db: Database, key: ParentOf) -> GatewayAttachment | None:
    """Return where one parentRef attaches; None if there is no such Gateway."""
    route, found = head(db, key.route), gateway_attachment(db, key)
    if route is None or found is None or not found.hostnames:
        return found
    target = target_of(found.parent, route.key)
    if kind_of(found.parent) is ParentKind.LISTENER_SET:
        gateway = gateway_of(db, target)
        if gateway is None:
            return found
        target = gateway
    owned = {
        Place(one.listener, one.hostname): owner
        for one in found.hostnames
        if (owner := owner_at(db, PlaceAt(target, one.listener, one.hostname))) is not None
    }
    return settled(route, found, owned) if owned else found


@query
def _attached_in(db: Database, part: Part) -> dict[str, int]:
    """Return how many accepted routes each listener has, among a part of the routes."""
    names = db.routes.bucket("part", part)
    if len(names) > PARTS and len(part.path) < PART_DEPTH:
        return _sum(
            _attached_in(db, Part(part.kind, part.parent, (*part.path, number)))
            for number in range(PARTS)
        )
    return _sum(_joined(db, RouteAt(name, part.kind, part.parent)) for name in names)


@query
def _joined(db: Database, key: RouteAt) -> dict[str, int]:
    """Return the listeners that count a route, 1 for each."""
    rules = translated(db, RouteFor(key.route, mesh=False))
    found: dict[str, int] = {}
    for at in _parent_refs(db, key.route, (key.kind, key.parent)):
        attached = settled_attachment(db, at)
        if attached is not None and rules is not None:
            found.update(dict.fromkeys(counted_listeners(attached, rules.verdict), 1))
    return found


@query
def attached_routes(db: Database, parent: Parent) -> dict[str, int]:
    """Return how many accepted routes each listener of a Gateway, or of a ListenerSet, has.

    By its place among all listeners of the Gateway; those that are added to it are not its own.
    """
    return _sum(_attached_in(db, Part(*parent, (number,))) for number in range(PARTS))


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in counts:
        for place, count in one.items():
            found[place] = found.get(place, 0) + count
    return found
