"""Queries about the weights of routes: in the routes themselves, or in the runtime."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from penstock.compiler.backend_tls import gateways_of
from penstock.compiler.database import Database
from penstock.compiler.gateway_clusters import any_shows, clusters_at
from penstock.compiler.indexes import ALL, served_as
from penstock.compiler.routing import RouteFor, head, translated
from penstock.envoy.cluster import Role, cluster_name
from penstock.envoy.route import ClusterName, runtime_keys
from penstock.gatewayapi.attach import ParentKind, kind_of
from penstock.incremental.query import query
from penstock.meta.limits import INLINE_WEIGHTS_ABOVE
from penstock.meta.names import ObjectRef


@query
def weights_in_runtime(db: Database, _: None) -> bool:
    """Tell whether weights are runtime keys: so few routes share requests that it pays."""
    return len(db.routes.bucket("weighted", ALL)) <= INLINE_WEIGHTS_ABOVE


@query
def route_weights(db: Database, name: ObjectRef) -> Mapping[str, int]:
    """Return the runtime keys of one route, in the clusters of each kind of parent it has."""
    route = head(db, name)
    parents = route.parents if route is not None else ()
    kinds = {served_as(kind_of(parent)) for parent in parents}
    keys: dict[str, int] = {}
    for kind in (ParentKind.SERVICE, ParentKind.GATEWAY):
        mesh = kind is ParentKind.SERVICE
        found = translated(db, RouteFor(name, mesh=mesh)) if kind in kinds else None
        for named in _names(db, name, kind) if found is not None else ():
            for one in found.rules if found is not None else ():
                keys |= runtime_keys(one, named)
    return keys


def _names(db: Database, route: ObjectRef, kind: ParentKind) -> Iterator[ClusterName]:
    """Yield the ways in which the parents of a route name clusters."""
    if kind is ParentKind.SERVICE:
        yield functools.partial(cluster_name, Role.MESH)
    elif not any_shows(db, None):
        yield functools.partial(cluster_name, Role.GATEWAY)
    else:
        for gateway in sorted(gateways_of(db, route)):
            yield clusters_at(db, gateway)


@query
def runtime_weights(db: Database, _: None) -> Mapping[str, int]:
    """Return all runtime keys."""
    keys: dict[str, int] = {}
    if weights_in_runtime(db, None):
        # One read for each route: this is the only query that grows with their number.
        for name in db.routes.bucket("weighted", ALL):
            keys |= route_weights(db, name)
    return keys
