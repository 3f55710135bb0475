"""The authorities that the system trusts, out of the file where it keeps them.

Source: Debian and Alpine ca-certificates, Fedora ca-certificates (update-ca-trust).
"""

from __future__ import annotations

from pathlib import Path

import structlog

from penstock.gatewayapi.certificate_faults import CertificateFault
from penstock.gatewayapi.certificates import read_authorities

PLACES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)
"""Where systems keep them; the first that is there counts."""

_log = structlog.get_logger("penstock.controller")


def find_authorities(named: Path | None) -> Path | None:
    """Return the file with the system's authorities: *named*, or that of this system.

    None if *named* is None and this system has none; what is named need not exist.
    """
    return named or next((place for place in PLACES if place.is_file()), None)


def read_system_authorities(named: Path | None) -> bytes:
    """Return the system's authorities in PEM, as `penstock.compiler.settings.Settings` takes them.

    Without them, policies that ask for them are refused, and nothing else is.

    Args:
        named: the file; None is where this system keeps them.
    """
    file = find_authorities(named)
    try:
        read = CertificateFault("no file") if file is None else read_authorities(file.read_bytes())
    except OSError as error:
        read = CertificateFault(error.strerror or str(error))
    if isinstance(read, bytes):
        return read
    _log.warning(
        "no authorities of the system: BackendTLSPolicies that ask for them are refused",
        file=str(file or ""),
        reason=read.message,
    )
    return b""
