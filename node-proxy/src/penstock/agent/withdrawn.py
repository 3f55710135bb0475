"""What Envoy gets in place of a key that it must not have any more.

Envoy goes on with a secret that is removed until the last connection of a filter chain with it has
drained; it takes another one in its place at once, and open connections go on.
"""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from penstock.envoy.tls import holds_certificate, secret
from penstock.xds import types
from penstock.xds.resource import ResourceName, encode_resource

NAME = "withdrawn.invalid"
_LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class Withdrawn:
    """A certificate that is good for nothing: nobody has issued it, and it ended long ago."""

    def __init__(self) -> None:
        """Make a key and a certificate of it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_LONG_AGO)
            .not_valid_after(_LONG_AGO + dt.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self._chain = made.public_bytes(Encoding.PEM)
        self._key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def in_place_of(self, key: ResourceName) -> bytes:
        """Return the frame of what goes in place of *key*; b"" if that holds no key."""
        if not holds_certificate(key.name):
            return b""
        made = secret(key.name, self._chain, self._key)
        return encode_resource(types.SECRET, key.name, made).framed
