"""Queries about XBackends."""

from __future__ import annotations

from penstock.compiler.backend_tls import MAX_ANCESTORS, gateways_of
from penstock.compiler.database import Database
from penstock.compiler.routing import external_place
from penstock.envoy.external import external_cluster, external_name
from penstock.gatewayapi.external_backends import backend_condition
from penstock.incremental.query import query
from penstock.ir.external import External
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource


@query
def is_external_used(db: Database, name: NamespacedName) -> bool:
    """Tell whether some route names an XBackend."""
    return bool(db.routes.bucket("external", name))


@query
def cluster_of_external(db: Database, name: NamespacedName) -> Resource | None:
    """Return the Cluster of an XBackend."""
    place = external_place(db, name)
    if not isinstance(place, External):
        return None
    made = external_cluster(name, place, node_netns=db.settings.dial_netns)
    return encode_resource(types.CLUSTER, external_name(name), made, [place.origin])


@query
def external_state(
    db: Database, name: NamespacedName
) -> tuple[Condition, tuple[NamespacedName, ...]] | None:
    """Return the condition of an XBackend and the Gateways that send there, sorted."""
    backend, found = db.externals.get(name), external_place(db, name)
    if backend is None or found is None:
        return None
    routes = db.routes.bucket("external", name)
    gateways = {gateway for route in routes for gateway in gateways_of(db, route)}
    return backend_condition(backend, found), tuple(sorted(gateways))[:MAX_ANCESTORS]
