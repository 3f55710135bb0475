"""The authorities that the system trusts, out of the file where it keeps them.

Source: Debian and Alpine ca-certificates, Fedora ca-certificates (update-ca-trust).
"""

from __future__ import annotations

from pathlib import Path

PLACES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)
"""Where systems keep them; the first that is there counts."""


def find_authorities(named: Path | None) -> Path | None:
    """Return the file with the system's authorities: *named*, or that of this system.

    None if *named* is None and this system has none; what is named need not exist.
    """
    return named or next((place for place in PLACES if place.is_file()), None)
