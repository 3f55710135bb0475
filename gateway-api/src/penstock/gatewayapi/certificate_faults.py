"""Why certificates are of no use; apart from `certificates`, whose library takes long to import."""

from __future__ import annotations

import msgspec

AUTHORITIES_KEY = "ca.crt"
"""Of a ConfigMap with certificates to trust."""


class CertificateFault(msgspec.Struct, frozen=True):
    """Why a Secret cannot serve."""

    message: str
