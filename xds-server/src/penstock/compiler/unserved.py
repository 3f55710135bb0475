"""Why nobody is served where a route is attached: none of its listeners there is accepted.

A route attaches to listeners whether they are accepted or not. A query looks at one listener, and a
route at those of its own until one is served.
"""

from __future__ import annotations

from penstock.compiler.attached import settled_attachment
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of
from penstock.compiler.gateway_ports import port_of, why_taken
from penstock.compiler.merged_listeners import ListenerOf, gateway_of, placed_at
from penstock.compiler.routing import ParentOf
from penstock.gatewayapi.attach import ParentKind
from penstock.gatewayapi.merged import served
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName

NAMED = 3
"""Listeners that a message names."""


@query
def _why_closed(db: Database, key: ListenerOf) -> str:
    """Return which listener is not accepted and why; "" if it is."""
    placed, fault = placed_at(db, key), fault_of(db, key.gateway)
    if placed is None:
        return ""
    if fault is not None:
        why = fault.message
    elif placed.fault is not None and not served((placed,)):
        why = placed.fault.message
    else:
        why = why_taken(db, port_of(key.gateway, placed.own))
    return f"listener {placed.own.name}: {why}" if why else ""


def why_unserved(db: Database, at: ParentOf, kind: ParentKind, target: NamespacedName) -> str:
    """Return why no listener is served that a route has by one parentRef; "" if one is.

    Args:
        db: all objects.
        at: the parentRef.
        kind: what it points at.
        target: its name.
    """
    if kind is ParentKind.SERVICE:
        return ""
    gateway = gateway_of(db, target) if kind is ParentKind.LISTENER_SET else target
    found = settled_attachment(db, at)
    if gateway is None or found is None:
        return ""
    said: list[str] = []
    for place in found.listeners:
        why = _why_closed(db, ListenerOf(gateway, place))
        if not why:
            return ""
        said.append(why)
    if not said:
        return ""
    more = f"; and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return f"not served: {'; '.join(said[:NAMED])}{more}"
