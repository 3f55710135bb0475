"""Queries about matches of routes that never see a request: which, and who goes before them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.compiler.attached import settled_attachment
from penstock.compiler.database import Database
from penstock.compiler.routing import ParentOf, head, service_attachment
from penstock.gatewayapi.attach import MeshRole, ParentKind, RouteHead, kind_of, target_of
from penstock.gatewayapi.shadows import (
    Asked,
    MatchAt,
    Shadow,
    matches_of,
    names_asked,
    own_shadows,
)
from penstock.incremental.query import query
from penstock.meta.names import ObjectRef, Origin

Places = dict[str, str]
"""What a route has at a parent, each with the words for it: hostnames of listeners, or ports."""


class First(msgspec.Struct, frozen=True):
    """The match that gets everything at a place."""

    match: Origin
    words: str
    """For the place."""


@query
def shadows(db: Database, key: ParentOf) -> tuple[Shadow, ...]:
    """Return the matches of a route that get nothing at one parent, sorted.

    Only routes that ask for the same are looked at: the work does not grow with the others.
    """
    route, about = db.routes.get(key.route), head(db, key.route)
    if route is None or about is None:
        return ()
    parent = about.parents[key.index]
    kind, target = kind_of(parent), target_of(parent, key.route.key)
    if kind is ParentKind.FOREIGN or not _is_attached(db, key):
        return ()
    found = list(own_shadows(route))
    for one in matches_of(route):
        for hostname in names_asked(about.kind, kind, about.hostnames):
            asked = Asked(key.route.kind, kind, target, hostname, one.selects)
            found += _behind(db, key, asked, one)
    return tuple(sorted(set(found)))


def _behind(db: Database, key: ParentOf, asked: Asked, own: MatchAt) -> Iterator[Shadow]:
    """Yield who goes before *own*: the first at each place."""
    if len(db.routes.bucket("asked", asked)) == 1:
        return
    first = _firsts(db, asked)
    for place in _places(db, key, asked.hostname):
        one = first.get(place)
        if one is not None and one.match.object != key.route:
            yield Shadow(own.path, one.words, one.match)


@query
def _firsts(db: Database, asked: Asked) -> dict[str, First]:
    """Return who gets everything at each place, of all routes that ask for the same.

    One query for all of them: a thousand equal routes are not compared with each other.
    """
    oldest: dict[str, tuple[RouteHead, ObjectRef, str]] = {}
    for name in db.routes.bucket("asked", asked):
        about = head(db, name)
        places = _all_places(db, name, about, asked) if about is not None else {}
        for place, words in places.items():
            if about is not None and (place not in oldest or about.age < oldest[place][0].age):
                oldest[place] = (about, name, words)
    return {
        place: First(Origin(name, _path(db, name, asked)), words)
        for place, (_, name, words) in oldest.items()
    }


def _path(db: Database, name: ObjectRef, asked: Asked) -> str:
    route = db.routes.get(name)
    every = () if route is None else matches_of(route)
    return next((one.path for one in every if one.selects == asked.selects), "")


def _all_places(db: Database, name: ObjectRef, about: RouteHead, asked: Asked) -> Places:
    """Return what a route has at the parent in question, by whatever parentRef."""
    found: Places = {}
    for index, parent in enumerate(about.parents):
        if (kind_of(parent), target_of(parent, name.key)) == (asked.parent, asked.target):
            found |= _places(db, ParentOf(name, index), asked.hostname)
    return found


def _places(db: Database, key: ParentOf, hostname: str) -> Places:
    about = head(db, key.route)
    if about is None or kind_of(about.parents[key.index]) is ParentKind.SERVICE:
        return _ports(db, key, hostname)
    found = settled_attachment(db, key)
    return {
        f"{one.listener}|{one.hostname}": f"{one.hostname} at listener {one.listener}"
        for one in (found.hostnames if found is not None else ())
        if one.written == hostname
    }


def _ports(db: Database, key: ParentOf, hostname: str) -> Places:
    found = service_attachment(db, key)
    if found is None:
        return {}
    clients = key.route.namespace if found.role is MeshRole.CONSUMER else ""
    words = f"{hostname} at port" if hostname else "port"
    return {f"{clients}|{port}|{hostname}": f"{words} {port}" for port in found.ports}


def _is_attached(db: Database, key: ParentOf) -> bool:
    """Tell whether a parent accepts the route, so that it could get something there."""
    route = head(db, key.route)
    if route is None:
        return False
    if kind_of(route.parents[key.index]) is ParentKind.SERVICE:
        on_service = service_attachment(db, key)
        return on_service is not None and bool(on_service.ports)
    found = settled_attachment(db, key)
    return found is not None and bool(found.hostnames)
