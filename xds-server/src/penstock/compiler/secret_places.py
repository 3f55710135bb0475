"""Which nodes get the key of a Secret: those with a listener that serves with it."""

from __future__ import annotations

from penstock.compiler.certificates import ListenerOf, client_certificate, listener_certificates
from penstock.compiler.database import Database
from penstock.compiler.gateway_ports import (
    GatewayPort,
    gateway_ref,
    listeners_on,
    port_holder,
    ports,
)
from penstock.compiler.nodes import places
from penstock.compiler.settings import Reach
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName

EVERY_NODE = ""


@query
def secret_nodes(db: Database, name: NamespacedName) -> tuple[str, ...]:
    """Return the nodes whose listeners serve with a Secret, sorted; EVERY_NODE alone for all."""
    sets = (db.listener_sets.get(one) for one in db.listener_sets.bucket("secret", name))
    parents = (one.gateway for one in sets if one is not None and one.gateway is not None)
    gateways = dict.fromkeys([*db.gateways.bucket("secret", name), *parents])
    users = [at for one in gateways for at in ports(db, one) if _serves_with(db, at, name)]
    if db.settings.reach is not Reach.CLUSTER:
        return (EVERY_NODE,) if users else ()
    held = [at for at in users if port_holder(db, at.host_port) in (None, at)]
    found = (place.node for at in held for place in places(db, gateway_ref(at.gateway)))
    return tuple(sorted(set(found)))


def _serves_with(db: Database, at: GatewayPort, name: NamespacedName) -> bool:
    of_listeners = (
        listener_certificates(db, ListenerOf(at.gateway, one.name)) for one in listeners_on(db, at)
    )
    shown = client_certificate(db, at.gateway)
    return (shown is not None and shown.secret == name) or any(
        name in one.usable for one in of_listeners if one is not None
    )
