"""Who is at the other end of a stream, and for which node it may speak."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio
import msgspec
from cryptography import x509

from penstock.meta.node_identity import node_of, node_uri

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Admitted(msgspec.Struct, frozen=True):
    """A stream that may speak for the node that it asked for."""

    until: float
    """Wall clock in seconds at which that ends."""


class Refused(msgspec.Struct, frozen=True):
    """A stream that may not."""

    code: grpc.StatusCode
    reason: str


class Peers(Protocol):
    """Decides for which node a stream may speak."""

    def judge(self, context: Context, node: str) -> Admitted | Refused:
        """Return whether the peer may speak for *node*."""
        ...


class Owner:
    """Everybody who can open the socket may speak for any node."""

    def judge(self, context: Context, node: str) -> Admitted | Refused:  # noqa: ARG002  # the protocol's
        """See Peers."""
        return Admitted(float("inf"))


class CertifiedNodes:
    """A peer speaks for the node in its certificate, until that ends.

    gRPC has checked the certificate against the bundle when the connection was made.
    """

    def __init__(self, trust_domain: str) -> None:
        """Take nodes of *trust_domain*."""
        self._trust_domain = trust_domain

    def judge(self, context: Context, node: str) -> Admitted | Refused:
        """See Peers."""
        properties = context.auth_context()
        certificates = list(properties.get("x509_pem_cert", ()))
        names = [name.decode("utf-8", "replace") for name in properties.get("peer_spiffe_id", ())]
        if len(certificates) != 1 or len(names) != 1:
            return Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                "the peer has no node certificate with one SPIFFE ID; join first",
            )
        if node_of(names[0], self._trust_domain) != node:
            return Refused(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate is that of {names[0]}, which may not speak for node {node!r};"
                f" that needs {node_uri(self._trust_domain, node)}: look at --node of the agent",
            )
        certificate = x509.load_pem_x509_certificate(certificates[0])
        return Admitted(certificate.not_valid_after_utc.timestamp())
