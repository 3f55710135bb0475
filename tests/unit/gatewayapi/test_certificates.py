"""What a Secret is worth to a listener."""

from __future__ import annotations

import base64
import datetime as dt
import ssl
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from penstock.core.decode import decode
from penstock.core.kinds import Secret
from penstock.gatewayapi.certificate_faults import CertificateFault
from penstock.gatewayapi.certificates import (
    Certificate,
    read_authorities,
    read_certificate,
    validity_warning,
)
from support.pki import Issued, issue, key_pem, tls_secret_raw

LEAF = issue("a.test")


def secret(**changes: Any) -> Secret:
    raw = tls_secret_raw("cert", "shop", [LEAF]) | changes
    made = decode(Secret, raw)
    assert isinstance(made, Secret)
    return made


def with_data(**values: str) -> Secret:
    """Return a Secret with the given keys, written as in files."""
    crt, key = values.get("crt", LEAF.pem), values.get("key", LEAF.key_pem)
    return secret(data={}, stringData={"tls.crt": crt, "tls.key": key})


def fault(given: Secret) -> str:
    found = read_certificate(given)
    assert isinstance(found, CertificateFault)
    return found.message


def good(given: Secret) -> Certificate:
    found = read_certificate(given)
    assert isinstance(found, Certificate), found
    return found


@pytest.mark.parametrize("made", [secret(), with_data()], ids=["data", "stringData"])
def test_certificate_and_key_that_fit_are_usable(made: Secret) -> None:
    found = good(made)
    assert found.chain.decode() == LEAF.pem
    assert found.key.decode() == LEAF.key_pem
    assert found.warnings == ()
    assert found.not_after == int(dt.datetime(2126, 1, 1, tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "P-521", "RSA"],
)
def test_kinds_of_keys_that_are_served(key: Any) -> None:
    one = issue("a.test", key=key)
    good(with_data(crt=one.pem, key=one.key_pem))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (secret(type="Opaque"), "is of type Opaque; a listener takes type kubernetes.io/tls"),
        (secret(data={}), "has no tls.crt"),
        (with_data(key=""), "has no tls.key"),
        (with_data(crt="Hello world\n", key="Hello world\n"), "tls.crt holds no certificate"),
        (with_data(key="Hello world\n"), "tls.key holds no private keys"),
        (with_data(key=LEAF.key_pem * 2), "tls.key holds 2 private keys"),
        (with_data(key=issue("a.test").key_pem), "tls.key is not the key of tls.crt"),
        (with_data(key=key_pem(LEAF.key, b"password")), "tls.key is encrypted"),
        (with_data(crt=LEAF.pem.replace("MII", "AAA")), "certificate 1 cannot be read"),
        (with_data(crt=LEAF.pem[:-20]), "tls.crt holds no certificate"),
        (with_data(key=LEAF.key_pem.replace("M", "N", 2)), "no private key that can be read"),
    ],
)
def test_what_is_wrong_is_named(made: Secret, text: str) -> None:
    assert text in fault(made)


def _of(key: Any) -> Secret:
    one = issue("a.test", key=key)
    return with_data(crt=one.pem, key=one.key_pem)


def test_keys_that_envoy_refuses_are_named() -> None:
    assert "1024 bits" in fault(_of(rsa.generate_private_key(65537, 1024)))  # noqa: S505 - refused
    assert "secp256k1" in fault(_of(ec.generate_private_key(ec.SECP256K1())))
    assert "neither RSA nor ECDSA" in fault(_of(ed25519.Ed25519PrivateKey.generate()))


def _pem(*chain: Issued) -> str:
    return "".join(one.pem for one in chain)


def test_a_chain_goes_from_the_server_to_its_issuers() -> None:
    root = issue("root.test")
    between = issue("between.test", by=root)
    leaf = issue("a.test", by=between)
    assert good(with_data(crt=_pem(leaf, between, root), key=leaf.key_pem)).warnings == ()
    mixed = good(with_data(crt=_pem(leaf, root, between), key=leaf.key_pem))
    assert mixed.warnings[0] == "tls.crt: certificate 2 did not issue certificate 1"
    wrong = fault(with_data(crt=_pem(between, leaf), key=leaf.key_pem))
    assert "the server's own certificate is number 2; put it first" in wrong


def test_what_stands_between_certificates_is_left_out() -> None:
    noise = f"subject=a.test\n{LEAF.key_pem}{LEAF.pem.replace(chr(10), chr(13) + chr(10))}# end\n"
    found = good(with_data(crt=noise, key=f"# key\n{LEAF.key_pem}\n\n"))
    assert b"PRIVATE" not in found.chain
    assert found.chain.count(b"BEGIN CERTIFICATE") == 1


def test_a_chain_is_out_of_date_with_its_first_member() -> None:
    soon = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
    root = issue("root.test", end=soon)
    leaf = issue("a.test", by=root)
    found = good(with_data(crt=_pem(leaf, root), key=leaf.key_pem))
    at = int(soon.timestamp())
    assert validity_warning(found, at - 1) == ""
    assert (
        validity_warning(found, at) == "the certificate expired at 2026-06-01T00:00:00Z; renew it"
    )
    assert "valid from 2026-01-01T00:00:00Z only" in validity_warning(found, 0)


def test_neither_faults_nor_representations_hold_a_key() -> None:
    body = LEAF.key_pem.splitlines()[1]
    for made in (with_data(), with_data(crt="x"), secret(type="Opaque")):
        assert body not in repr(read_certificate(made))
        assert base64.b64encode(LEAF.key_pem.encode()).decode() not in repr(made)


def test_hostile_pem_takes_no_time_to_refuse() -> None:
    begin = "-----BEGIN CERTIFICATE-----\n"
    assert "no certificate" in fault(with_data(crt=begin * 40_000))


def test_an_authority_whose_serial_number_is_zero_is_read_without_a_word() -> None:
    """Systems trust some that old; nobody can issue them any more, so one is made of another."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    begin, end = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2120, 1, 1, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, begin, end)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    zero = made.replace(b"\x02\x01\x01", b"\x02\x01\x00", 1)
    pem = ssl.DER_cert_to_PEM_cert(zero).encode()
    assert isinstance(read_authorities(pem), bytes)
