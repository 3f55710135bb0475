"""HTTPS on a port of a Gateway: one filter chain for each listener, told apart by the server name.

Keys are not part of listeners: each chain names its secrets, which come as resources of their own
(SDS), so that a renewed certificate changes no listener. A chain without secrets closes every
connection: a server name whose certificate is missing is nobody else's.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from google.protobuf.duration_pb2 import Duration

from penstock.envoy.scope import SCOPE_HEADER
from penstock.envoy.wire import ads, pack
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from penstock.pb.envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import (
    common_pb2,
    secret_pb2,
    tls_pb2,
)
from penstock.pb.envoy.type.matcher.v3 import string_pb2

ALPN = ("h2", "http/1.1")
"""Protocols that clients may choose from, the preferred one first."""
MISDIRECTED = 421
HANDSHAKE_SECONDS = 10
CLOSED_CLUSTER = "penstock.closed"
"""A cluster that never exists: connections that lead to it are closed at once."""


class TlsChain(msgspec.Struct, frozen=True, kw_only=True):
    """Connections to one listener of a port that ends their TLS."""

    listener: str
    hostname: str
    """For whose server names: exact, "*.a.test", or "" for all that no other chain has."""
    secrets: tuple[str, ...]
    """Names of secrets with its certificates; without any, handshakes are refused."""
    authorities: bytes = b""
    """Certificates in PEM by which those of clients are checked; empty: they are not."""
    strict: bool = True
    """Whether clients need a good certificate where they are checked."""
    alpn: tuple[str, ...] = ALPN
    """Protocols that clients may choose from."""
    asked: int = 0
    """So many are asked about each request before there is a route."""


_PREFIX = "tls|"


def secret_name(secret: NamespacedName) -> str:
    """Return the name of the resource with the certificate of a Secret."""
    return f"{_PREFIX}{secret}"


def holds_certificate(name: str) -> bool:
    """Return whether the secret *name* is a certificate with its key."""
    return name.startswith(_PREFIX)


def secret(name: str, chain: bytes, key: bytes) -> secret_pb2.Secret:
    """Build the secret *name*; *chain* and *key* are PEM."""
    return secret_pb2.Secret(
        name=name,
        tls_certificate=common_pb2.TlsCertificate(
            certificate_chain=base_pb2.DataSource(inline_bytes=chain),
            private_key=base_pb2.DataSource(inline_bytes=key),
        ),
    )


def redacted(made: secret_pb2.Secret) -> secret_pb2.Secret:
    """Return a copy of a secret without its key, for people to read."""
    result = secret_pb2.Secret()
    result.CopyFrom(made)
    if result.HasField("tls_certificate"):
        result.tls_certificate.private_key.inline_string = "[redacted]"
    return result


def via(listener: str) -> str:
    """Return the end of the scope header's value on the connections of one HTTPS listener.

    It stands behind a ":", where the scope's key has ended, and behind all that a client says.
    """
    return f":@{listener}"


def misdirected(owner: str) -> route_pb2.Route:
    """Build the route that answers 421 to requests on connections of others than *owner*.

    Source: Gateway API v1.7, Listener.hostname; RFC 9110, 15.5.20.
    """
    route = route_pb2.Route(
        name="misdirected",
        match=route_pb2.RouteMatch(prefix="/"),
        direct_response=route_pb2.DirectResponseAction(status=MISDIRECTED),
    )
    route.match.headers.add(
        name=SCOPE_HEADER,
        string_match=string_pb2.StringMatcher(suffix=via(owner)),
        invert_match=True,
    )
    return route


def inspector() -> listener_components_pb2.ListenerFilter:
    """Build the listener filter that reads the server name."""
    return listener_components_pb2.ListenerFilter(
        name="envoy.filters.listener.tls_inspector",
        typed_config=pack(tls_inspector_pb2.TlsInspector()),
    )


def filter_chain(
    chain: TlsChain, filters: Iterable[listener_components_pb2.Filter]
) -> listener_components_pb2.FilterChain:
    """Build the filter chain of one HTTPS listener, which hands requests to *filters*."""
    result = listener_components_pb2.FilterChain(name=chain.listener)
    if chain.hostname:
        result.filter_chain_match.server_names.append(chain.hostname)
    if not chain.secrets:
        result.filters.append(_closing())
        return result
    result.filters.extend(filters)
    result.transport_socket.name = "envoy.transport_sockets.tls"
    result.transport_socket.typed_config.CopyFrom(pack(_downstream(chain)))
    result.transport_socket_connect_timeout.CopyFrom(Duration(seconds=HANDSHAKE_SECONDS))
    return result


def _downstream(chain: TlsChain) -> tls_pb2.DownstreamTlsContext:
    result = tls_pb2.DownstreamTlsContext()
    common = result.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    common.alpn_protocols.extend(chain.alpn)
    for name in chain.secrets:
        common.tls_certificate_sds_secret_configs.add(name=name, sds_config=ads())
    if chain.authorities:
        result.require_client_certificate.value = chain.strict
        validation = common.validation_context
        validation.trusted_ca.CopyFrom(base_pb2.DataSource(inline_bytes=chain.authorities))
        if not chain.strict:
            validation.trust_chain_verification = (
                common_pb2.CertificateValidationContext.ACCEPT_UNTRUSTED
            )
    return result


def _closing() -> listener_components_pb2.Filter:
    config = tcp_proxy_pb2.TcpProxy(stat_prefix="closed", cluster=CLOSED_CLUSTER)
    return listener_components_pb2.Filter(
        name="envoy.filters.network.tcp_proxy", typed_config=pack(config)
    )
