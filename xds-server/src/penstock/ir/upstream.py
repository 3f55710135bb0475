"""How the endpoints of a backend are met where a route says so itself.

Source: ingress-nginx, annotations backend-protocol and proxy-ssl-*. A BackendTLSPolicy goes before.
"""

from __future__ import annotations

import msgspec

from penstock.meta.names import NamespacedName


class UpstreamTls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS towards endpoints."""

    verified: bool = False
    """Whether the endpoint's certificate is looked at."""
    name: str = ""
    """Name that it must have then; "" is "<service>.<namespace>.svc"."""
    tells_name: bool = False
    """Whether the handshake asks for that name (SNI)."""
    secret: NamespacedName | None = None
    """The Secret with the authorities, and with the certificate that is shown, if it has one."""


class Upstream(msgspec.Struct, frozen=True, kw_only=True):
    """What is spoken to endpoints."""

    http2: bool = False
    tls: UpstreamTls | None = None
