"""Queries about clusters for routes that say themselves how endpoints are met.

Such a cluster is one more for the Service port: endpoints and rules are those of all Gateways. A
BackendTLSPolicy for the port goes before what the route says. Without what its Secret is to have,
the cluster has no endpoint.
"""

from __future__ import annotations

import msgspec

from penstock.compiler.backend_tls import tls_towards
from penstock.compiler.backend_traffic import retry_budget
from penstock.compiler.database import Database
from penstock.compiler.endpoints import port_of
from penstock.compiler.usable_secrets import certificate
from penstock.core.objects import Broken
from penstock.envoy import cluster as clusters
from penstock.envoy.cluster import Protocol, Role, met_name
from penstock.envoy.retry_budget import limit_retries
from penstock.envoy.upstream_tls import secure
from penstock.gatewayapi.certificate_faults import AUTHORITIES_KEY, CertificateFault, unreadable
from penstock.gatewayapi.certificates import (
    CERTIFICATE_KEY,
    Certificate,
    read_authorities,
)
from penstock.incremental.query import query
from penstock.ingress.derive import IngressRoute
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.ir.route import ServicePort
from penstock.ir.upstream import Upstream, UpstreamTls
from penstock.meta.names import NamespacedName, Origin
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.xds import types
from penstock.xds.resource import Resource, ResourceName, encode_resource


class Met(msgspec.Struct, frozen=True):
    """A Service port and how it is met."""

    target: ServicePort
    upstream: Upstream


class Held(msgspec.Struct, frozen=True):
    """What a Secret has for TLS towards endpoints."""

    authorities: bytes = b""
    shows: bool = False
    """Whether it has a certificate to show."""


@query
def held(db: Database, name: NamespacedName) -> Held | CertificateFault:
    """Return what a Secret has, or why it cannot be used."""
    secret = db.secrets.get(name)
    if secret is None:
        return CertificateFault("does not exist")
    if isinstance(secret, Broken):
        return unreadable(secret)
    files = secret.files()
    authorities: bytes | CertificateFault = b""
    if files.get(AUTHORITIES_KEY):
        authorities = read_authorities(files[AUTHORITIES_KEY])
    if isinstance(authorities, CertificateFault):
        return CertificateFault(f"{AUTHORITIES_KEY} {authorities.message}")
    shown = certificate(db, name) if files.get(CERTIFICATE_KEY) else None
    if isinstance(shown, CertificateFault):
        return shown
    return Held(authorities, shows=isinstance(shown, Certificate))


@query
def fault_of_secret(db: Database, tls: UpstreamTls) -> str:
    """Return why TLS cannot be as it is asked for, "" if it can."""
    if tls.secret is None:
        return ""
    found = held(db, tls.secret)
    if isinstance(found, CertificateFault):
        return f"Secret {tls.secret} {found.message}"
    if tls.verified and not found.authorities:
        return f"Secret {tls.secret} has no {AUTHORITIES_KEY}"
    return ""


def _tls(db: Database, key: Met) -> BackendTls | RefusedTls | None:
    """Return how the endpoints are met; None is without TLS."""
    by_policy, asked = tls_towards(db, key.target), key.upstream.tls
    if by_policy is not None or asked is None:
        return by_policy
    service = key.target.service
    origin = Origin.of("Service" if asked.secret is None else "Secret", asked.secret or service)
    found = None if asked.secret is None else held(db, asked.secret)
    if fault_of_secret(db, asked):
        return RefusedTls(origin=origin)
    has = found if isinstance(found, Held) else Held()
    name = asked.name or f"{service.name}.{service.namespace}.svc"
    return BackendTls(
        server_name=name if asked.tells_name else "",
        authorities=has.authorities,
        hostnames=(name,),
        certificate=asked.secret if has.shows else None,
        unverified=not asked.verified,
        origin=origin,
    )


def met_towards(db: Database, target: ServicePort) -> tuple[Met, ...]:
    """Return the ways that routes say in which a Service port is met, sorted by their names."""
    return _met_towards(db, target) if db.routes.ever("upstream") else ()


@query
def _met_towards(db: Database, target: ServicePort) -> tuple[Met, ...]:
    routes = (db.routes.get(name) for name in db.routes.bucket("upstream", target))
    asked = (one.upstream for one in routes if isinstance(one, IngressRoute))
    found = {met_name(target, one): Met(target, one) for one in asked if one is not None}
    return tuple(found[name] for name in sorted(found))


def shown_to(db: Database, key: Met) -> NamespacedName | None:
    """Return the certificate that the endpoints are shown; None for none."""
    tls = _tls(db, key)
    return tls.certificate if isinstance(tls, BackendTls) else None


@query
def met_cluster(db: Database, key: Met) -> Resource | None:
    """Return the Cluster of a Service port that is met as a route says."""
    service = db.services.get(key.target.service)
    if service is None or port_of(service, key.target.port) is None:
        return None
    protocol = Protocol.HTTP2 if key.upstream.http2 else Protocol.HTTP1
    made = clusters.policed(Role.GATEWAY, key.target, protocol, node_netns=db.settings.dial_netns)
    shared = ResourceName(types.ENDPOINTS, made.name)
    made.eds_cluster_config.service_name = made.name
    made.name = met_name(key.target, key.upstream)
    origins, needs = [Origin.of("Service", key.target.service)], [shared]
    tls = _tls(db, key)
    if isinstance(tls, RefusedTls):
        # Without endpoints: who asks is answered 503.
        made.ClearField("eds_cluster_config")
        made.type, needs = cluster_pb2.Cluster.STATIC, []
    elif tls is not None:
        secure(made, tls, http2=key.upstream.http2)
    if tls is not None:
        origins.append(tls.origin)
    budget = retry_budget(db, key.target.service)
    if budget is not None:
        limit_retries(made, budget)
        origins.append(budget.origin)
    return encode_resource(types.CLUSTER, made.name, made, dict.fromkeys(origins), needs)
