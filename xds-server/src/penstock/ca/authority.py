"""Certificates of the authority itself, and those that it signs.

An authority is one or more pairs of certificate and key. All certificates together are the bundle
that others trust; the newest pair that everybody had time to hear of signs. So a pair is replaced
by adding another one: nothing is ever signed by what somebody does not trust yet, and what was
signed before stays good until its end.
Source: RFC 5280; SPIFFE X.509-SVID standard, sections 4 and 5.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from penstock.meta.errors import PenstockError
from penstock.meta.node_identity import controller_uri, node_uri

CA_LIFE = timedelta(days=365)
LEAF_LIFE = timedelta(hours=24)
"""Of certificates for nodes and controllers."""
SETTLE = timedelta(days=2)
"""How long a new pair is only trusted before it signs, while there is an older one."""
BEFORE = timedelta(minutes=5)
"""How much earlier a certificate begins, for clocks that are late."""
RENEW_AFTER = 2 / 3
"""Share of its life after which a certificate is replaced."""
_KEY_BEGIN, _KEY_END = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----"


class AuthorityError(PenstockError):
    """What should be a certificate authority is none; the text says why."""


class RequestError(PenstockError):
    """A certificate signing request that is not accepted."""


class Pair(msgspec.Struct, frozen=True):
    """One certificate of the authority; without a key it is only trusted."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None = None

    def __repr__(self) -> str:
        """Return text without the key."""
        return f"Pair({self.certificate.subject.rfc4514_string()})"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that the authority signed."""

    certificate: bytes
    """PEM."""
    serial: str
    """Hexadecimal."""
    ends: datetime


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What a controller proves itself with."""

    certificate: bytes
    """PEM."""
    key: bytes
    """PEM, PKCS #8."""
    renew: datetime

    def __repr__(self) -> str:
        """Return text without the key."""
        return f"Serving(renew={self.renew})"


class Authority:
    """What is trusted, and what signs."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        """Hold *pairs*, of which at least one has a key.

        Raises:
            AuthorityError: none has.
        """
        self._pairs = tuple(sorted(pairs, key=lambda one: one.certificate.not_valid_before_utc))
        if not any(one.key for one in self._pairs):
            raise AuthorityError("no certificate of the authority has its key beside it")

    def certificates(self, now: datetime) -> bytes:
        """Return what to trust at *now*, as PEM."""
        return _pem(one.certificate for one in self._pairs if _ends(one) > now)

    def every_certificate(self) -> bytes:
        """Return all certificates as PEM, for where the authority is kept."""
        return _pem(one.certificate for one in self._pairs)

    def keys(self) -> bytes:
        """Return all keys as PEM, for where the authority is kept."""
        return b"".join(_key_pem(one.key) for one in self._pairs if one.key is not None)

    def is_due(self, now: datetime) -> bool:
        """Return whether the newest pair has lived for so long that another one is to be made."""
        newest = self._pairs[-1].certificate
        life = newest.not_valid_after_utc - newest.not_valid_before_utc
        return now >= newest.not_valid_before_utc + life * RENEW_AFTER

    def renewed(self, now: datetime) -> Authority:
        """Return an authority with one pair more, and without those that have ended."""
        return Authority([*(one for one in self._pairs if _ends(one) > now), new_pair(now)])

    def sign_node(
        self, request: x509.CertificateSigningRequest, node: str, trust_domain: str, now: datetime
    ) -> Issued:
        """Return a certificate for *node* over the key of *request*; nothing else of it counts."""
        uri = x509.UniformResourceIdentifier(node_uri(trust_domain, node))
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._sign(_p256(request.public_key()), [uri], usage, now)

    def serving(self, names: Sequence[str], trust_domain: str, now: datetime) -> Serving:
        """Return a new key and certificate of a controller that is met under *names*."""
        key = ec.generate_private_key(ec.SECP256R1())
        uri = x509.UniformResourceIdentifier(controller_uri(trust_domain))
        subject: list[x509.GeneralName] = [uri, *map(x509.DNSName, names)]
        issued = self._sign(key.public_key(), subject, ExtendedKeyUsageOID.SERVER_AUTH, now)
        renew = now + (issued.ends - now) * RENEW_AFTER
        return Serving(certificate=issued.certificate, key=_key_pem(key), renew=renew)

    def _signer(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        usable = [
            (one.certificate, one.key)
            for one in self._pairs
            if one.key is not None and one.certificate.not_valid_before_utc <= now < _ends(one)
        ]
        if not usable:
            raise AuthorityError(
                "no certificate of the authority with a key is valid now; is the clock right?"
            )
        settled = [one for one in usable if one[0].not_valid_before_utc + SETTLE <= now]
        return settled[-1] if settled else usable[0]

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        subject: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
    ) -> Issued:
        issuer, issuer_key = self._signer(now)
        ends = min(now + LEAF_LIFE, issuer.not_valid_after_utc)
        serial = x509.random_serial_number()
        parent = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(parent)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(now - BEFORE)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(subject), critical=True)
            .add_extension(identifier, critical=False)
        )
        made = builder.sign(issuer_key, hashes.SHA256())
        return Issued(certificate=_pem([made]), serial=f"{serial:x}", ends=ends)


def new_authority(now: datetime) -> Authority:
    """Return an authority with one new pair."""
    return Authority([new_pair(now)])


def new_pair(now: datetime) -> Pair:
    """Return a new key and its own certificate for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Two certificates of an authority must not have one name, or verifiers may try the wrong one.
    label = f"{now:%Y-%m-%d} {serial % 0x10000:04x}"
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Penstock"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"penstock-ca {label}"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def read_authority(certificates: bytes, keys: bytes) -> Authority:
    """Return the authority that is kept as PEM; each key finds its certificate.

    Raises:
        AuthorityError: it is not readable, or does not belong together.
    """
    try:
        found = x509.load_pem_x509_certificates(certificates)
        private = [load_pem_private_key(one, None) for one in _blocks(keys)]
    except (ValueError, TypeError, binascii.Error) as error:
        raise AuthorityError(f"certificates or keys are not PEM: {error}") from error
    by_public: dict[ec.EllipticCurvePublicNumbers | None, ec.EllipticCurvePrivateKey] = {
        key.public_key().public_numbers(): key
        for key in private
        if isinstance(key, ec.EllipticCurvePrivateKey)
    }
    pairs = [Pair(one, by_public.get(_numbers(one))) for one in found if _is_authority(one)]
    if len(pairs) != len(found):
        raise AuthorityError("one of the certificates may not sign others (no CA, or no key id)")
    return Authority(pairs)


def read_request(pem: bytes) -> x509.CertificateSigningRequest:
    """Return a certificate signing request that is accepted.

    Raises:
        RequestError: it is none, its signature is not its key's, or that is no P-256 key.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        _p256(request.public_key())
        if not request.is_signature_valid:
            raise RequestError("the signature of the request is not that of its key")
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RequestError(f"this is no PEM certificate signing request: {error}") from error
    return request


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise RequestError("the key must be an elliptic one on P-256")


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca


def _numbers(certificate: x509.Certificate) -> ec.EllipticCurvePublicNumbers | None:
    key = certificate.public_key()
    return key.public_numbers() if isinstance(key, ec.EllipticCurvePublicKey) else None


def _ends(pair: Pair) -> datetime:
    return pair.certificate.not_valid_after_utc


def _blocks(keys: bytes) -> Iterable[bytes]:
    for part in keys.split(_KEY_BEGIN)[1:]:
        body, end, _ = part.partition(_KEY_END)
        yield _KEY_BEGIN + body + end + b"\n"


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def utc(seconds: float) -> datetime:
    """Return a wall clock's seconds since 1970 as a time."""
    return datetime.fromtimestamp(seconds, UTC)
