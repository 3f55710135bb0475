"""Certificates of listeners: what a Secret of type kubernetes.io/tls holds, and if it can serve.

Source: Kubernetes, Secret type kubernetes.io/tls (keys tls.crt and tls.key in PEM); RFC 8446,
4.4.2 (the server's own certificate comes first); what the TLS library of Envoy 1.40 can use.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.utils import CryptographyDeprecationWarning

from penstock.core.kinds import Secret
from penstock.gatewayapi.certificate_faults import CertificateFault

TLS_SECRET_TYPE = "kubernetes.io/tls"  # noqa: S105 - the name of a type
CERTIFICATE_KEY, PRIVATE_KEY_KEY = "tls.crt", "tls.key"
SMALLEST_RSA_KEY = 2048
"""Bits; Envoy refuses shorter ones."""
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A chain of certificates and its key, which fit together."""

    chain: bytes
    """PEM, the server's own certificate first; nothing but certificates."""
    key: bytes
    """PEM, the private key alone."""
    not_before: int
    """Seconds since 1970, of the server's own certificate."""
    not_after: int
    """The same; the earliest of the chain."""
    warnings: tuple[str, ...] = ()
    """What some clients will stumble over."""
    names: tuple[str, ...] = ()
    """DNS names of the server's own certificate, in lower case, sorted."""

    def __repr__(self) -> str:
        """Return nothing of the key."""
        return f"Certificate(not_after={self.not_after})"


class _FaultError(Exception):
    """What is wrong with a Secret, in words; never holds any of its values."""


def read_certificate(secret: Secret) -> Certificate | CertificateFault:
    """Return what *secret* holds, or why a listener cannot use it."""
    try:
        return _read(secret)
    except _FaultError as fault:
        return CertificateFault(str(fault))


def read_authorities(content: bytes) -> bytes | CertificateFault:
    """Return the certificates in *content*, which is PEM, or why they cannot be trusted."""
    try:
        blocks = list(_blocks(content, b"CERTIFICATE"))
        for index, one in enumerate(blocks):
            _certificate(one, index)
    except _FaultError as fault:
        return CertificateFault(str(fault).partition(": ")[2] or str(fault))
    if not blocks:
        return CertificateFault("holds no certificate in PEM")
    return b"\n".join([*blocks, b""])


def validity_warning(certificate: Certificate, now: int) -> str:
    """Return why clients refuse *certificate* at *now* (seconds since 1970), "" if they do not."""
    if now >= certificate.not_after:
        return f"the certificate expired at {moment(certificate.not_after)}; renew it"
    if now < certificate.not_before:
        return f"the certificate is valid from {moment(certificate.not_before)} only"
    return ""


def moment(seconds: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read(secret: Secret) -> Certificate:
    if secret.type != TLS_SECRET_TYPE:
        raise _FaultError(f"is of type {secret.type}; a listener takes type {TLS_SECRET_TYPE}")
    files = secret.files()
    for name in (CERTIFICATE_KEY, PRIVATE_KEY_KEY):
        if not files.get(name):
            raise _FaultError(f"has no {name}")
    chain_pem = list(_blocks(files[CERTIFICATE_KEY], b"CERTIFICATE"))
    if not chain_pem:
        raise _FaultError(f"{CERTIFICATE_KEY} holds no certificate in PEM")
    chain = [_certificate(one, index) for index, one in enumerate(chain_pem)]
    key_pem, key = _private_key(files[PRIVATE_KEY_KEY])
    _check_pair(chain, key)
    return Certificate(
        chain=b"\n".join([*chain_pem, b""]),
        key=key_pem + b"\n",
        not_before=int(chain[0].not_valid_before_utc.timestamp()),
        not_after=int(min(one.not_valid_after_utc for one in chain).timestamp()),
        warnings=tuple(_order_warnings(chain)),
        names=_dns_names(chain[0]),
    )


def _blocks(content: bytes, label: bytes) -> Iterator[bytes]:
    """Yield the PEM blocks whose label ends in *label*; what stands between them is passed over."""
    at = content.find(_BEGIN)
    while at >= 0:
        name = content[at + len(_BEGIN) : content.find(_DASHES, at + len(_BEGIN))]
        end = content.find(_END + name + _DASHES, at)
        if end < 0:
            return
        after = end + len(_END) + len(name) + len(_DASHES)
        if name.endswith(label):
            yield content[at:after]
        at = content.find(_BEGIN, after)


def _certificate(pem: bytes, index: int) -> x509.Certificate:
    try:
        with warnings.catch_warnings():
            # Of authorities that everybody trusts and that are not quite what RFC 5280 wants.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise _FaultError(f"{CERTIFICATE_KEY}: certificate {index + 1} cannot be read") from None
    return certificate


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    return tuple(sorted({one.lower() for one in names.get_values_for_type(x509.DNSName)}))


def _private_key(content: bytes) -> tuple[bytes, PrivateKeyTypes]:
    blocks = list(_blocks(content, b"PRIVATE KEY"))
    if len(blocks) != 1:
        raise _FaultError(f"{PRIVATE_KEY_KEY} holds {len(blocks) or 'no'} private keys in PEM; "
                          "put one there")  # fmt: skip
    try:
        key = serialization.load_pem_private_key(blocks[0], password=None)
    except TypeError:
        raise _FaultError(f"{PRIVATE_KEY_KEY} is encrypted; store the key itself") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _FaultError(f"{PRIVATE_KEY_KEY} is no private key that can be read") from None
    match key:
        case rsa.RSAPrivateKey() if key.key_size < SMALLEST_RSA_KEY:
            raise _FaultError(f"the RSA key has {key.key_size} bits; use {SMALLEST_RSA_KEY}")
        case ec.EllipticCurvePrivateKey() if key.curve.name not in _CURVES:
            raise _FaultError(f"curve {key.curve.name} is not served; use P-256, P-384 or P-521")
        case rsa.RSAPrivateKey() | ec.EllipticCurvePrivateKey():
            return blocks[0], key
        case _:
            raise _FaultError("the key is neither RSA nor ECDSA; no other kind is served")


def _check_pair(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> None:
    own = _encoded(key.public_key())
    places = [index for index, one in enumerate(chain) if _encoded(one.public_key()) == own]
    if not places:
        raise _FaultError(f"{PRIVATE_KEY_KEY} is not the key of {CERTIFICATE_KEY}")
    if places[0] != 0:
        raise _FaultError(
            f"{CERTIFICATE_KEY}: the server's own certificate is number {places[0] + 1}; "
            "put it first, then the one that issued it"
        )


def _encoded(key: PublicKeyTypes) -> bytes:
    """Return a public key in a form that can be compared."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _order_warnings(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    """Yield where a certificate is not issued by the next: TLS 1.2 clients go by the order."""
    for index in range(len(chain) - 1):
        try:
            chain[index].verify_directly_issued_by(chain[index + 1])
        except (ValueError, TypeError, InvalidSignature):
            yield (
                f"{CERTIFICATE_KEY}: certificate {index + 2} did not issue certificate {index + 1}"
            )
