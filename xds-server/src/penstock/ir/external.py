"""Places outside of the cluster. Source: Gateway API, XBackend."""

from __future__ import annotations

import msgspec

from penstock.ir.backend_tls import BackendTls
from penstock.meta.names import Origin


class External(msgspec.Struct, frozen=True, kw_only=True):
    """A name in DNS, and what is spoken there."""

    hostname: str
    port: int
    http2: bool = False
    tls: BackendTls | None = None
    origin: Origin
