"""Queries about which XTelemetryPolicy holds for a Gateway, wherever its traces then go."""

from __future__ import annotations

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_our_gateway
from penstock.compiler.indexes import ALL
from penstock.gatewayapi import telemetry
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName


def any_policies(db: Database) -> bool:
    """Tell whether there is any policy: without one nothing depends on those of a Gateway."""
    return db.telemetry.holds("all", ALL)


@query
def holding(db: Database, gateway: NamespacedName) -> NamespacedName | None:
    """Return the policy that holds for a Gateway, if there is any."""
    named = (db.telemetry.get(name) for name in db.telemetry.bucket("gateway", gateway))
    found = telemetry.winner(one for one in named if one is not None)
    return None if found is None else found.key


@query
def gateways_naming(db: Database, service: NamespacedName) -> frozenset[NamespacedName]:
    """Return the Gateways of ours whose policy names a Service, or an XBackend's stand-in.

    What a policy says that does not hold is nobody's.
    """
    found: set[NamespacedName] = set()
    for name in db.telemetry.bucket("told", service):
        policy = db.telemetry.get(name)
        for gateway in policy.gateways if policy is not None else ():
            if is_our_gateway(db, gateway) and holding(db, gateway) == name:
                found.add(gateway)
    return frozenset(found)
