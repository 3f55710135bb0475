"""TLS towards endpoints, as the transport socket of a cluster."""

from __future__ import annotations

from penstock.envoy.tls import secret_name
from penstock.envoy.wire import ads, exact, pack
from penstock.ir.backend_tls import BackendTls
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2, tls_pb2
from penstock.pb.envoy.type.matcher.v3 import string_pb2

SYSTEM_AUTHORITIES = "ca|system"
"""Name of the secret with the authorities of the system, which clusters share."""
_MATCHER = common_pb2.SubjectAltNameMatcher


def trusted_secret(pem: bytes) -> secret_pb2.Secret:
    """Build the secret with the authorities of the system."""
    result = secret_pb2.Secret(name=SYSTEM_AUTHORITIES)
    result.validation_context.trusted_ca.CopyFrom(base_pb2.DataSource(inline_bytes=pem))
    return result


def secure(
    made: cluster_pb2.Cluster, tls: BackendTls, *, http2: bool, shown: str | None = None
) -> None:
    """Let the connections of a cluster be as *tls* says.

    Args:
        made: the cluster, which is changed.
        tls: who is met.
        http2: whether HTTP/2 is spoken.
        shown: name of the secret with the certificate that is shown to endpoints.
    """
    made.transport_socket.CopyFrom(secured(tls, "h2" if http2 else "http/1.1", shown=shown))


def secured(tls: BackendTls, *alpn: str, shown: str | None = None) -> base_pb2.TransportSocket:
    """Build the transport socket that *tls* asks for.

    Args:
        tls: who is met.
        alpn: the protocols that are offered; none without any.
        shown: as for `secure`, where *tls* itself names none.
    """
    context = tls_pb2.UpstreamTlsContext(sni=tls.server_name)
    common = context.common_tls_context
    common.tls_params.tls_minimum_protocol_version = common_pb2.TlsParameters.TLSv1_2
    common.alpn_protocols.extend(alpn)
    if tls.certificate is not None:
        shown = secret_name(tls.certificate)
    if shown is not None:
        common.tls_certificate_sds_secret_configs.add(name=shown, sds_config=ads())
    if not tls.unverified:
        _verify(common, tls)
    return base_pb2.TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _verify(common: tls_pb2.CommonTlsContext, tls: BackendTls) -> None:
    """Let the endpoint's certificate be checked."""
    if tls.system:
        combined = common.combined_validation_context
        shared = combined.validation_context_sds_secret_config
        shared.name = SYSTEM_AUTHORITIES
        shared.sds_config.CopyFrom(ads())
        validation = combined.default_validation_context
    else:
        validation = common.validation_context
        validation.trusted_ca.CopyFrom(base_pb2.DataSource(inline_bytes=tls.authorities))
    for name in tls.hostnames:
        validation.match_typed_subject_alt_names.add(san_type=_MATCHER.DNS, matcher=_hostname(name))
    for uri in tls.uris:
        validation.match_typed_subject_alt_names.add(san_type=_MATCHER.URI, matcher=exact(uri))


def _hostname(name: str) -> string_pb2.StringMatcher:
    """Match a name of a certificate; "*.a.test" as it is written there.

    Envoy itself lets "*.a.test" of a certificate match an exact name.
    """
    return exact(name)
