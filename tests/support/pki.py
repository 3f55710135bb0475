"""Certificates for tests, made when they are needed."""

from __future__ import annotations

import base64
import datetime as dt
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2126, 1, 1, tzinfo=dt.UTC)


class Issued(msgspec.Struct, frozen=True):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)


def key_pem(key: Key, password: bytes = b"") -> str:
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def issue(
    *names: str,
    by: Issued | None = None,
    key: Key | None = None,
    begin: dt.datetime = BEGIN,
    end: dt.datetime = END,
) -> Issued:
    """Return a certificate for *names*, signed by *by* or by itself; it may sign others."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    alternatives = [x509.DNSName(name) for name in names]
    signer = by.key if by is not None else key
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return Issued(made, key)


def server_context(own: Issued, folder: Path) -> ssl.SSLContext:
    """Return the context of a server with a certificate, which is written into *folder*."""
    file = folder / f"{own.certificate.serial_number}.pem"
    file.write_text(own.pem + own.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


def tls_secret_raw(
    name: str, namespace: str, chain: Sequence[Issued], key: str | None = None
) -> dict[str, Any]:
    """Return a Secret as an API server would have it."""
    crt = "".join(one.pem for one in chain)
    data = {"tls.crt": crt, "tls.key": chain[0].key_pem if key is None else key}
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": encoded,
    }
