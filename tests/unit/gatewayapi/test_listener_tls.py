"""certificateRefs of listeners, and server names that overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.gatewayapi.certificate_faults import CertificateFault
from penstock.gatewayapi.grants import Referrer, permits_of
from penstock.gatewayapi.listener_tls import (
    CertificateSources,
    CertificateState,
    ListenerCertificates,
    Usable,
    named_secrets,
    overlaps,
    referenced_secrets,
    resolve_certificates,
)
from penstock.gatewayapi.resources import Gateway, ReferenceGrant
from penstock.gatewayapi.watched_secrets import watched_secrets
from penstock.meta.names import NamespacedName
from support.gateway_objects import Json, gateway, gateway_class, listener, secret_grant

GATEWAY = Referrer("app", kind="Gateway")
GOOD = NamespacedName("app", "good")
TLS: Json = {"certificateRefs": [{"name": "good"}]}
THERE = NamespacedName("certs", "there")
STATES: Mapping[NamespacedName, CertificateState] = {
    GOOD: Usable(),
    THERE: Usable(),
    NamespacedName("app", "bad"): CertificateFault("has no tls.key"),
    NamespacedName("app", "old"): Usable(refused="expired", warnings=("odd",)),
}


def https(*references: Json, name: str = "https", **more: Any) -> Json:
    tls = {"certificateRefs": list(references) or [{"name": "good"}]}
    return listener(name, 443, "HTTPS", tls=tls, **more)


def resolved(*references: Json, grants: tuple[ReferenceGrant, ...] = ()) -> ListenerCertificates:
    (one,) = gateway(https(*references)).spec.listeners
    sources = CertificateSources(certificate=STATES.get, permits=permits_of(grants))
    return resolve_certificates(one, GATEWAY, sources)


@pytest.mark.parametrize(
    ("reference", "reason", "text"),
    [
        ({"name": "nowhere"}, "InvalidCertificateRef", "Secret app/nowhere does not exist"),
        ({"name": "bad"}, "InvalidCertificateRef", "Secret app/bad: has no tls.key"),
        ({"name": "good", "group": "wrong.test"}, "InvalidCertificateRef", "use Secret"),
        ({"name": "good", "kind": "WrongKind"}, "InvalidCertificateRef", "use Secret"),
        ({"name": "there", "namespace": "certs"}, "RefNotPermitted", "no ReferenceGrant"),
        ({"name": "nowhere", "namespace": "certs"}, "RefNotPermitted", "no ReferenceGrant"),
        ({"name": "x", "kind": "Wrong", "namespace": "certs"}, "RefNotPermitted", "Wrong certs/x"),
    ],
)
def test_reference_that_cannot_be_used_says_why(reference: Json, reason: str, text: str) -> None:
    found = resolved(reference)
    assert found.usable == ()
    (one,) = found.unusable
    assert (one.index, one.reason) == (0, reason)
    assert text in one.message


def test_good_references_serve_beside_bad_ones() -> None:
    found = resolved({"name": "bad"}, {"name": "good"}, {"name": "good"})
    assert found.usable == (GOOD,)
    assert [one.field for one in found.unusable] == ["tls.certificateRefs[0]"]


def test_listener_without_references_has_nothing_to_serve_with() -> None:
    (one,) = gateway(listener("https", 443, "HTTPS")).spec.listeners
    found = resolve_certificates(
        one, GATEWAY, CertificateSources(certificate=STATES.get, permits=permits_of(()))
    )
    assert [(one.field, one.reason) for one in found.unusable] == [("tls", "InvalidCertificateRef")]


def test_what_clients_stumble_over_is_told_with_the_secret() -> None:
    found = resolved({"name": "old"})
    assert found.usable == (NamespacedName("app", "old"),)
    assert found.refused == ("Secret app/old: expired",)
    assert found.warnings == ("Secret app/old: odd",)


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        (secret_grant("certs", "app"), True),
        (secret_grant("certs", "app", "there"), True),
        (secret_grant("certs", "app", "other", "there"), True),
        (secret_grant("certs", "app", "other"), False),
        (secret_grant("certs", "elsewhere", "there"), False),
        (secret_grant("elsewhere", "app", "there"), False),
        (secret_grant("certs", "app", "there", kind="HTTPRoute"), False),
        (secret_grant("certs", "app", "there", group="other.test"), False),
        (secret_grant("certs", "app", "there", to_kind="Service"), False),
        (secret_grant("certs", "app", "there", to_group="other.test"), False),
    ],
)
def test_only_a_grant_that_fits_in_every_field_allows(grant: ReferenceGrant, allowed: bool) -> None:  # noqa: FBT001
    found = resolved({"name": "there", "namespace": "certs"}, grants=(grant,))
    assert found.usable == ((THERE,) if allowed else ())
    assert [one.reason for one in found.unusable] == ([] if allowed else ["RefNotPermitted"])


# Which Secrets are looked at


def test_secrets_are_named_by_listeners_that_end_tls() -> None:
    given = gateway(
        https({"name": "good"}, {"name": "there", "namespace": "certs"}),
        https({"name": "good"}, {"name": "k", "kind": "Other"}, name="again", hostname="a.test"),
        listener(),
        listener(
            "tls",
            444,
            "TLS",
            tls={"mode": "Passthrough", "certificateRefs": [{"name": "not-served"}]},
        ),
    )
    assert named_secrets(given) == {GOOD, THERE}
    assert referenced_secrets(given, permits_of(())) == {GOOD}


def _gateway(name: str, *references: Json, of: str = "c") -> Gateway:
    return gateway(https(*references), name=name, gatewayClassName=of)


def test_secrets_are_watched_where_a_gateway_of_ours_may_use_them() -> None:
    there = {"name": "there", "namespace": "certs"}
    mine, theirs = _gateway("mine", {"name": "good"}, there), _gateway("x", {"name": "y"}, of="o")
    grant = secret_grant("certs", "app")
    assert watched_secrets([mine, theirs]) == frozenset()
    assert watched_secrets([mine, theirs, gateway_class()]) == {GOOD}
    assert watched_secrets([grant, mine, theirs, gateway_class()]) == {GOOD, THERE}
    foreign = gateway_class("other.test/controller")
    assert watched_secrets([grant, mine, foreign]) == frozenset()


# Server names


def overlapping(*given: Json) -> dict[str, tuple[str, ...]]:
    return overlaps(gateway(*given).spec.listeners)


def test_listeners_that_share_server_names_know_of_each_other() -> None:
    found = overlapping(
        https(name="a", hostname="foo.example.com"),
        https(name="b", hostname="foo.example.org"),
        https(name="c", hostname="*.example.com"),
    )
    assert found == {"a": ("c",), "c": ("a",)}


def test_a_listener_for_all_names_overlaps_with_every_other_of_its_port() -> None:
    found = overlapping(
        https(name="any"),
        https(name="a", hostname="a.test"),
        https(name="b", hostname="b.test"),
        listener("elsewhere", 444, "HTTPS", hostname="a.test", tls=TLS),
        listener("plain", 80),
        https(name="deep", hostname="*.x.test"),
    )
    assert found == {
        "any": ("a", "b", "deep"), "a": ("any",), "b": ("any",), "deep": ("any",),
    }  # fmt: skip
