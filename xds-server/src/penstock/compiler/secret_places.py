"""Which nodes get the key of a Secret: those with a Gateway that serves with it or shows it."""

from __future__ import annotations

from penstock.compiler.certificates import client_certificate, gateway_certificates
from penstock.compiler.database import Database
from penstock.compiler.external import gateways_asking
from penstock.compiler.gateway_ports import (
    GatewayPort,
    gateway_ref,
    port_of,
    ports,
    taken_by,
)
from penstock.compiler.merged_listeners import served_listeners
from penstock.compiler.nodes import EVERY_NODE, places
from penstock.compiler.selected import external_place
from penstock.compiler.settings import Reach
from penstock.compiler.telemetry import gateways_telling
from penstock.gatewayapi.faults import Fault
from penstock.incremental.query import query
from penstock.ir.external import target_of_xbackend
from penstock.meta.names import NamespacedName


@query
def secret_nodes(db: Database, name: NamespacedName) -> tuple[str, ...]:
    """Return the nodes whose Gateways use a Secret, sorted; EVERY_NODE alone for all."""
    sets = (db.listener_sets.get(one) for one in db.listener_sets.bucket("secret", name))
    parents = (one.gateway for one in sets if one is not None and one.gateway is not None)
    gateways = dict.fromkeys([*db.gateways.bucket("secret", name), *parents])
    users = [at for one in gateways for at in _serving(db, one).get(name, ())]
    showing = _showing(db, name)
    if db.settings.reach is not Reach.CLUSTER:
        return (EVERY_NODE,) if users or showing else ()
    held = {at.gateway for at in users if taken_by(db, at) is None}
    found = (place.node for one in held | showing for place in places(db, gateway_ref(one)))
    return tuple(sorted(set(found)))


def nodes_showing(db: Database, certificate: NamespacedName | None) -> tuple[str, ...]:
    """Return the nodes for a Cluster that shows *certificate*, None for no certificate at all.

    An Envoy that has such a Cluster waits for the key, so it goes where the key goes and nowhere
    else.
    """
    return (EVERY_NODE,) if certificate is None else secret_nodes(db, certificate)


def _showing(db: Database, name: NamespacedName) -> set[NamespacedName]:
    """Return the Gateways that show a certificate because an XBackend or an Ingress asks for it."""
    ingresses = (db.ingresses.get(one) for one in db.ingresses.bucket("secret", name))
    found = {one.entry for one in ingresses if one is not None}
    for backend in db.externals.bucket("secret", name):
        place = external_place(db, backend)
        tls = None if place is None or isinstance(place, Fault) else place.tls
        if place is not None and tls is not None and tls.certificate == name:
            if not isinstance(place, Fault):
                found |= gateways_asking(db, backend, place)
            found |= gateways_telling(db, target_of_xbackend(backend))
    return found


@query
def _serving(db: Database, gateway: NamespacedName) -> dict[NamespacedName, list[GatewayPort]]:
    """Return the Secrets that a Gateway uses, each with the ports that need it and are opened."""
    opened = ports(db, gateway)
    if not opened:
        return {}
    certificates, shown = gateway_certificates(db, gateway), client_certificate(db, gateway)
    found: dict[NamespacedName, dict[GatewayPort, None]] = {}
    for one in served_listeners(db, gateway):
        resolved = certificates.get(one.place)
        for secret in resolved.usable if resolved is not None else ():
            found.setdefault(secret, {})[port_of(gateway, one.own)] = None
    if shown is not None and shown.secret is not None:
        found[shown.secret] = dict.fromkeys(opened)
    return {secret: list(at) for secret, at in found.items()}
