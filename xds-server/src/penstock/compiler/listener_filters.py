"""Queries about who is asked before a route is chosen, because of filters of listeners."""

from __future__ import annotations

from penstock.compiler.database import Database
from penstock.compiler.gateway_ports import (
    GatewayHost,
    GatewayPort,
    http_listeners_on,
    owner,
)
from penstock.compiler.merged_listeners import ListenerOf, placed_at, placed_listeners
from penstock.gatewayapi.backends import References
from penstock.gatewayapi.listener_filters import Asked, asked_before_routing, filters_of
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName


@query
def asked_at(db: Database, key: ListenerOf) -> Asked:
    """Return who is asked about the requests to a listener, in order."""
    placed = placed_at(db, key)
    if placed is None:
        return ()
    references = References(service=db.services.get, permits=db.permits)
    return asked_before_routing(placed.own, placed.holder, references)


@query
def asked_of_gateway(db: Database, name: NamespacedName) -> dict[str, Asked]:
    """Return who is asked about the requests to each listener that has filters, by its place."""
    return {
        one.place: asked_at(db, ListenerOf(name, one.place))
        for one in placed_listeners(db, name)
        if filters_of(one.own)
    }


@query
def most_asked(db: Database, at: GatewayPort) -> int:
    """Return how many are asked at most about a request to a port."""
    return max((len(filters_of(one)) for one in http_listeners_on(db, at)), default=0)


def asked_for(db: Database, key: GatewayHost) -> Asked:
    """Return who is asked about the requests to a host, in order."""
    listener = owner(db, key) if most_asked(db, key.at) else None
    if listener is None or not filters_of(listener):
        return ()
    return asked_at(db, ListenerOf(key.at.gateway, listener.name))
