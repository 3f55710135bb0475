"""TLS from Gateways to endpoints. Source: Gateway API, BackendTLSPolicy."""

from __future__ import annotations

from penstock.ir.route import Node
from penstock.meta.names import NamespacedName, Origin


class BackendTls(Node, frozen=True, kw_only=True):
    """How an endpoint is met."""

    server_name: str
    """What is asked for in the handshake (SNI)."""
    authorities: bytes
    """Certificates in PEM; one of them must have issued the endpoint's."""
    system: bool = False
    """Whether one of the authorities of the system must have, instead."""
    hostnames: tuple[str, ...]
    """The endpoint's certificate must have one of these names or of `uris`."""
    uris: tuple[str, ...] = ()
    certificate: NamespacedName | None = None
    """The Secret with the certificate that is shown to the endpoint; None shows none."""
    unverified: bool = False
    """Whether any certificate is believed: authorities and names do not matter."""
    origin: Origin


class RefusedTls(Node, frozen=True, kw_only=True):
    """There is a policy that cannot be kept, so that no connection is made."""

    origin: Origin
