"""Queries about certificates: which listeners, and which Gateways, may use which Secrets."""

from __future__ import annotations

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import ours
from penstock.compiler.merged_listeners import (
    ListenerOf,
    checks_of_clients,
    placed_at,
    placed_listeners,
)
from penstock.compiler.usable_secrets import certificate, certificate_sources
from penstock.envoy.tls import TlsChain, secret, secret_name
from penstock.gatewayapi.certificates import Certificate
from penstock.gatewayapi.listener_filters import filters_of
from penstock.gatewayapi.listener_tls import (
    ClientCertificate,
    ListenerCertificates,
    referrer_of,
    resolve_certificates,
    resolve_shown,
    terminates_tls,
)
from penstock.gatewayapi.listeners import Tls
from penstock.gatewayapi.merged import tls_of
from penstock.gatewayapi.resources import Listener
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, Origin
from penstock.xds import types
from penstock.xds.resource import Resource, encode_resource


@query
def listener_certificates(db: Database, key: ListenerOf) -> ListenerCertificates | None:
    """Return what the certificateRefs of a listener came to; None if it is not HTTPS."""
    placed = placed_at(db, key)
    if placed is None or not terminates_tls(placed.own):
        return None
    return resolve_certificates(placed.own, referrer_of(placed.holder), certificate_sources(db))


@query
def client_certificate(db: Database, gateway: NamespacedName) -> ClientCertificate | None:
    """Return the certificate that a Gateway shows to endpoints; None if it shows none."""
    found = ours(db, gateway)
    return None if found is None else resolve_shown(found, certificate_sources(db))


@query
def gateway_certificates(db: Database, name: NamespacedName) -> dict[str, ListenerCertificates]:
    """Return what the certificateRefs of each HTTPS listener of a Gateway came to, by its place."""
    found: dict[str, ListenerCertificates] = {}
    for one in placed_listeners(db, name):
        resolved = listener_certificates(db, ListenerOf(name, one.place))
        if resolved is not None:
            found[one.place] = resolved
    return found


@query
def tls_of_listeners(db: Database, name: NamespacedName) -> dict[str, Tls]:
    """Return what is known of the TLS of each listener of a Gateway, by its place."""
    return tls_of(placed_listeners(db, name), gateway_certificates(db, name))


def https_chain(db: Database, gateway: NamespacedName, listener: Listener) -> TlsChain | None:
    """Return how a listener ends TLS, and checks its clients; None if it does not end it."""
    chain = tls_chain(db, gateway, listener)
    check = checks_of_clients(db, gateway).at(listener.port)
    if chain is None or check is None:
        return chain
    return msgspec.structs.replace(chain, authorities=check.authorities, strict=check.required)


def tls_chain(db: Database, gateway: NamespacedName, listener: Listener) -> TlsChain | None:
    """Return how a listener ends TLS, whoever its clients are; None if it does not."""
    resolved = listener_certificates(db, ListenerOf(gateway, listener.name))
    if resolved is None:
        return None
    secrets = tuple(map(secret_name, resolved.usable))
    return TlsChain(
        listener=listener.name,
        hostname=listener.hostname or "",
        secrets=secrets,
        asked=len(filters_of(listener)),
    )


@query
def tls_secret(db: Database, name: NamespacedName) -> Resource | None:
    """Return the resource with a Secret's certificate and key."""
    found = certificate(db, name)
    if not isinstance(found, Certificate):
        return None
    made = secret(secret_name(name), found.chain, found.key)
    return encode_resource(types.SECRET, made.name, made, [Origin.of("Secret", name)])
