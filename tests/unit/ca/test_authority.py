"""What the authority signs, and how it is replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from penstock.ca.authority import (
    LEAF_LIFE,
    SETTLE,
    Authority,
    AuthorityError,
    RequestError,
    new_authority,
    new_pair,
    read_authority,
    read_request,
)
from support.nodes import issue, new_key, request_pem

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "spiffe://cluster.local/penstock/node/n1"


def trusted(bundle: bytes, now: datetime) -> PolicyBuilder:
    return PolicyBuilder().store(Store(x509.load_pem_x509_certificates(bundle))).time(now)


def names(bundle: bytes, certificate: bytes, now: datetime) -> list[str]:
    """Return the URIs of a client's certificate after a verifier accepted it."""
    leaf = x509.load_pem_x509_certificate(certificate)
    client = trusted(bundle, now).build_client_verifier().verify(leaf, [])
    return [name.value for name in client.subjects or []]


def issuer(certificate: bytes) -> x509.Name:
    return x509.load_pem_x509_certificate(certificate).issuer


def test_certificate_of_a_node_is_for_a_client_with_its_spiffe_id_and_a_day() -> None:
    authority = new_authority(NOW)
    key, issued = issue(authority, "n1", NOW)
    leaf = x509.load_pem_x509_certificate(issued.certificate)
    assert names(authority.certificates(NOW), issued.certificate, NOW) == [URI]
    assert leaf.public_key() == key.public_key()
    assert leaf.not_valid_after_utc == issued.ends == NOW + LEAF_LIFE
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert f"{leaf.serial_number:x}" == issued.serial


def test_serials_are_random() -> None:
    authority = new_authority(NOW)
    serials = {issue(authority, "n1", NOW)[1].serial for _ in range(5)}
    assert len(serials) == 5
    assert all(int(serial, 16) > 1 << 64 for serial in serials)


def test_nothing_that_a_request_asks_for_is_granted() -> None:
    wanted = x509.UniformResourceIdentifier("spiffe://cluster.local/penstock/node/other")
    pem = request_pem(
        new_key(),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([wanted, x509.DNSName("penstock-controller")]),
    )
    authority = new_authority(NOW)
    issued = authority.sign_node(read_request(pem), "n1", "cluster.local", NOW)
    assert names(authority.certificates(NOW), issued.certificate, NOW) == [URI]
    leaf = x509.load_pem_x509_certificate(issued.certificate)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_certificate_of_a_controller_is_for_a_server_with_its_names() -> None:
    authority = new_authority(NOW)
    serving = authority.serving(["penstock-controller"], "cluster.local", NOW)
    leaf = x509.load_pem_x509_certificate(serving.certificate)
    policy = trusted(authority.certificates(NOW), NOW)
    policy.build_server_verifier(x509.DNSName("penstock-controller")).verify(leaf, [])
    with pytest.raises(VerificationError):
        policy.build_client_verifier().verify(leaf, [])
    assert serving.renew == NOW + LEAF_LIFE * 2 / 3


def test_a_node_cannot_be_a_server() -> None:
    authority = new_authority(NOW)
    leaf = x509.load_pem_x509_certificate(issue(authority, "n1", NOW)[1].certificate)
    verifier = trusted(authority.certificates(NOW), NOW).build_server_verifier(x509.DNSName("n1"))
    with pytest.raises(VerificationError):
        verifier.verify(leaf, [])


def test_a_new_pair_is_trusted_before_it_signs_and_the_old_one_until_its_end() -> None:
    authority = new_authority(NOW)
    _, early = issue(authority, "n1", NOW)
    assert not authority.is_due(NOW)
    due = NOW + timedelta(days=250)
    assert authority.is_due(due)
    both = authority.renewed(due)
    assert not both.is_due(due)
    old = issuer(early.certificate)
    assert issuer(issue(both, "n1", due)[1].certificate) == old
    settled = due + SETTLE
    _, late = issue(both, "n1", settled)
    assert issuer(late.certificate) != old
    bundle = both.certificates(settled)
    assert len(x509.load_pem_x509_certificates(bundle)) == 2
    assert names(bundle, late.certificate, settled) == [URI]
    assert names(bundle, issue(authority, "n1", settled)[1].certificate, settled) == [URI]
    ended = NOW + timedelta(days=366)
    assert len(x509.load_pem_x509_certificates(both.certificates(ended))) == 1


def test_certificates_and_keys_find_each_other_in_any_order() -> None:
    pairs = [new_pair(NOW), new_pair(NOW + timedelta(days=1))]
    authority = Authority(pairs)
    certificates = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in reversed(pairs))
    again = read_authority(certificates, authority.keys())
    assert again.keys() == authority.keys()
    assert again.certificates(NOW) == authority.certificates(NOW)


def test_a_certificate_without_its_key_is_trusted_only() -> None:
    old, new = new_pair(NOW), new_pair(NOW)
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (old, new))
    authority = read_authority(pem, Authority([new]).keys())
    assert len(x509.load_pem_x509_certificates(authority.certificates(NOW))) == 2
    assert issuer(issue(authority, "n1", NOW)[1].certificate) == new.certificate.subject


@pytest.mark.parametrize(
    ("certificates", "keys", "words"),
    [
        (b"", b"", "not PEM"),
        (b"x", b"x", "not PEM"),
        (new_authority(NOW).certificates(NOW), b"", "has its key"),
        (new_authority(NOW).certificates(NOW), new_authority(NOW).keys(), "has its key"),
        (issue(new_authority(NOW), "n1", NOW)[1].certificate, b"", "may not sign"),
    ],
)
def test_what_is_no_authority_is_named(certificates: bytes, keys: bytes, words: str) -> None:
    with pytest.raises(AuthorityError, match=words):
        read_authority(certificates, keys)


def test_an_authority_that_has_ended_signs_nothing() -> None:
    with pytest.raises(AuthorityError, match="clock"):
        issue(new_authority(NOW), "n1", NOW + timedelta(days=400))


def test_a_certificate_does_not_outlive_its_issuer() -> None:
    late = NOW + timedelta(days=365) - timedelta(hours=1)
    assert issue(new_authority(NOW), "n1", late)[1].ends == NOW + timedelta(days=365)


def _by_rsa() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _by_p384() -> bytes:
    return request_pem(ec.generate_private_key(ec.SECP384R1()))


def _altered() -> bytes:
    request = x509.load_pem_x509_csr(request_pem(new_key()))
    content = bytearray(request.public_bytes(Encoding.DER))
    content[-1] ^= 1
    return x509.load_der_x509_csr(bytes(content)).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "no PEM"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "no PEM"),
        (_by_rsa(), "P-256"),
        (_by_p384(), "P-256"),
        (_altered(), "signature"),
    ],
)
def test_requests_that_are_not_accepted(pem: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_request(pem)


def test_keys_are_not_shown() -> None:
    authority = new_authority(NOW)
    pair = new_pair(NOW)
    serving = authority.serving(["c"], "cluster.local", NOW)
    for shown in (repr(pair), repr(serving), repr(authority)):
        assert "PRIVATE" not in shown
        assert "private" not in shown.lower()
