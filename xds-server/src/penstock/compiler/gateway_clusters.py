"""Queries about the clusters of Gateways that show a certificate of their own to endpoints.

Such a Gateway has clusters of its own for the Services that it speaks TLS to; endpoints and rules
they share with those of all other Gateways. While its certificate cannot be used it connects to no
endpoint with TLS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import msgspec

from penstock.compiler.backend_tls import gateways_of, tls_towards
from penstock.compiler.certificates import client_certificate
from penstock.compiler.database import Database
from penstock.compiler.indexes import ALL
from penstock.compiler.services import gateway_cluster
from penstock.envoy.cluster import Role, cluster_name, showing_name
from penstock.envoy.tls import CLOSED_CLUSTER
from penstock.gatewayapi.attach import ParentKind
from penstock.incremental.query import query
from penstock.ir.backend_tls import BackendTls
from penstock.ir.route import Forward, ServicePort, VirtualHost
from penstock.meta.names import NamespacedName
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName


class Showing(msgspec.Struct, frozen=True, order=True):
    """The cluster of a Service port for Gateways that show one certificate."""

    target: ServicePort
    secret: NamespacedName


@query
def any_shows(db: Database, _: None) -> bool:
    """Tell whether there is any Gateway that shows a certificate to endpoints."""
    return db.gateways.holds("shows", ALL)


def clusters_at(db: Database, gateway: NamespacedName) -> Callable[[ServicePort], str]:
    """Return how a Gateway names the cluster in which it meets the endpoints of a Service port."""
    if not any_shows(db, None):
        return functools.partial(cluster_name, Role.GATEWAY)
    return functools.partial(_cluster_towards, db, gateway)


def _cluster_towards(db: Database, gateway: NamespacedName, target: ServicePort) -> str:
    shown = client_certificate(db, gateway)
    if shown is None or not isinstance(tls_towards(db, target), BackendTls):
        return cluster_name(Role.GATEWAY, target)
    return CLOSED_CLUSTER if shown.secret is None else showing_name(target, shown.secret)


def needs_of(db: Database, gateway: NamespacedName, host: VirtualHost) -> Iterator[ResourceName]:
    """Yield what a node must have, before it is sent these routes, because of the certificate."""
    if not any_shows(db, None):
        return
    for route in host.routes:
        for target in route.action.targets if isinstance(route.action, Forward) else ():
            name = _cluster_towards(db, gateway, target)
            if name != CLOSED_CLUSTER:
                yield ResourceName(types.CLUSTER, name)


def showing_towards(db: Database, target: ServicePort) -> tuple[Showing, ...]:
    """Return the clusters of a Service port for Gateways that show certificates, sorted."""
    return _showing_towards(db, target) if any_shows(db, None) else ()


@query
def _showing_towards(db: Database, target: ServicePort) -> tuple[Showing, ...]:
    if not isinstance(tls_towards(db, target), BackendTls):
        return ()
    routes = db.routes.bucket("backend", (ParentKind.GATEWAY, target))
    gateways = {one for route in routes for one in gateways_of(db, route)}
    shown = (client_certificate(db, one) for one in gateways)
    secrets = {one.secret for one in shown if one is not None and one.secret is not None}
    return tuple(Showing(target, secret) for secret in sorted(secrets))


@query
def showing_cluster(db: Database, key: Showing) -> Resource | None:
    """Return the Cluster of a Service port for Gateways that show one certificate."""
    return gateway_cluster(db, key.target, key.secret)
