"""Which BackendTLSPolicy holds for a port, and what is said about it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.core.decode import decode
from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.core.objects import Broken, Object, ObjectMeta
from penstock.gatewayapi.backend_tls import (
    authorities,
    backend_tls,
    policy_conditions,
    target_faults,
    winner,
)
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.trust import TrustSources
from penstock.gatewayapi.watched_secrets import watched_bundles, watched_config_maps
from penstock.ir.backend_tls import BackendTls, RefusedTls
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Problem
from support.gateway_objects import API, Json
from support.pki import issue

CA = {"group": "", "kind": "ConfigMap", "name": "ca"}
PEM = issue("authority.test").pem


def _decoded(name: str, spec: Json, created: str) -> Object | Broken:
    meta = {"name": name, "namespace": "app", "generation": 4, "creationTimestamp": created}
    raw = {"apiVersion": API, "kind": "BackendTLSPolicy", "metadata": meta, "spec": spec}
    return decode(BackendTLSPolicy, raw)


def policy(
    name: str = "policy",
    *,
    section: str | None = None,
    created: str = "2026-01-01",
    **validation: Any,
) -> BackendTLSPolicy:
    target = {"group": "", "kind": "Service", "name": "web"}
    if section is not None:
        target["sectionName"] = section
    given = {"caCertificateRefs": [CA], "hostname": "web.test", **validation}
    made = _decoded(name, {"targetRefs": [target], "validation": given}, created)
    assert isinstance(made, BackendTLSPolicy), made
    return made


def config_map(**data: str) -> ConfigMap:
    meta = {"name": "ca", "namespace": "app"}
    made = decode(
        ConfigMap, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    )
    assert isinstance(made, ConfigMap)
    return made


def known(found: ConfigMap | None = None) -> TrustSources:
    there = found or config_map(**{"ca.crt": PEM})
    return TrustSources(config_map={NamespacedName("app", "ca"): there}.get)


def bundle(pem: str) -> ClusterTrustBundle:
    made = decode(
        ClusterTrustBundle,
        {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": "roots"},
            "spec": {"trustBundle": pem},
        },
    )
    assert isinstance(made, ClusterTrustBundle), made
    return made


def broken_bundle(said: str, *, unseen: bool) -> Broken:
    metadata = ObjectMeta(name="roots")
    problems = (Problem("", said),)
    return Broken(
        of_kind="ClusterTrustBundle", metadata=metadata, raw={}, problems=problems, unseen=unseen
    )


PORTS = {"web": ["http", "https"]}
BUNDLE = {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "roots"}


def test_the_port_of_its_own_goes_before_the_whole_service() -> None:
    every = [policy("all", created="2020-01-01"), policy("one", section="https")]
    found = [winner(every, "web", port) for port in ("https", "other")]
    assert [one.metadata.name for one in found if one is not None] == ["one", "all"]
    assert not any(target_faults(one, every, PORTS.get) for one in every)
    assert winner(every, "elsewhere", "https") is None


@pytest.mark.parametrize("section", [None, "https"])
def test_of_two_for_one_port_the_older_holds(section: str | None) -> None:
    young = policy("a", section=section, created="2026-01-02")
    old = policy("b", section=section, created="2026-01-01")
    assert winner([young, old], "web", "https") is old
    lost = target_faults(young, [young, old], PORTS.get)
    assert target_faults(old, [young, old], PORTS.get) == {}
    conditions = policy_conditions(young, authorities(young, known()), lost)
    assert _summary(conditions)["Accepted"] == (False, "Conflicted")


@pytest.mark.parametrize(("name", "section"), [("gone", None), ("web", "gone")])
def test_a_policy_for_what_is_not_there_is_not_accepted(name: str, section: str | None) -> None:
    one = policy(section=section)
    (target,) = one.spec.target_refs
    spec = msgspec.structs.replace(
        one.spec, target_refs=(msgspec.structs.replace(target, name=name),)
    )
    one = msgspec.structs.replace(one, spec=spec)
    lost = target_faults(one, [one], PORTS.get)
    (accepted, _) = policy_conditions(one, authorities(one, known()), lost)
    assert (accepted.status, accepted.reason) == (False, "TargetNotFound")
    assert "gone" in accepted.message


def test_a_policy_that_holds_for_some_of_its_targets_names_the_others() -> None:
    one = policy()
    (target,) = one.spec.target_refs
    other = msgspec.structs.replace(target, section_name="gone")
    spec = msgspec.structs.replace(one.spec, target_refs=(target, other))
    one = msgspec.structs.replace(one, spec=spec)
    lost = target_faults(one, [one], PORTS.get)
    (accepted, _) = policy_conditions(one, authorities(one, known()), lost)
    assert accepted.status
    assert accepted.message == "Service app/web has no port named gone; its ports: http, https"


def test_of_the_same_age_the_name_decides() -> None:
    every = [policy("b"), policy("a")]
    found = winner(every, "web", "https")
    assert found is not None
    assert found.metadata.name == "a"


def _summary(conditions: Any) -> dict[str, tuple[bool, str]]:
    assert {one.observed_generation for one in conditions} == {4}
    return {one.type: (one.status, one.reason) for one in conditions}


def test_the_hostname_is_asked_for_and_checked() -> None:
    one = policy()
    tls = backend_tls(one, authorities(one, known()))
    assert isinstance(tls, BackendTls)
    assert (tls.server_name, tls.hostnames, tls.uris) == ("web.test", ("web.test",), ())
    assert tls.authorities.decode().strip() == PEM.strip()
    assert _summary(policy_conditions(one, authorities(one, known()), {})) == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (True, "ResolvedRefs"),
    }


def test_other_names_stand_instead_of_the_hostname() -> None:
    names = [{"type": "URI", "uri": "spiffe://a/b"}, {"type": "Hostname", "hostname": "x.test"}]
    one = policy(subjectAltNames=names)
    tls = backend_tls(one, authorities(one, known()))
    assert isinstance(tls, BackendTls)
    assert (tls.server_name, tls.hostnames, tls.uris) == (
        "web.test", ("x.test",), ("spiffe://a/b",)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("validation", "found", "accepted", "resolved"),
    [
        ({}, None, "NoValidCACertificate", "InvalidCACertificateRef"),
        ({}, config_map(), "NoValidCACertificate", "InvalidCACertificateRef"),
        ({}, config_map(**{"ca.crt": ""}), "NoValidCACertificate", "InvalidCACertificateRef"),
        (
            {},
            config_map(**{"ca.crt": PEM.replace("M", "*")}),
            "NoValidCACertificate",
            "InvalidCACertificateRef",
        ),
        (
            {"caCertificateRefs": [{"group": "x.io", "kind": "Bundle", "name": "ca"}]},
            config_map(**{"ca.crt": PEM}),
            "NoValidCACertificate",
            "InvalidKind",
        ),
        (
            {"caCertificateRefs": [], "wellKnownCACertificates": "System"},
            None,
            "Invalid",
            "ResolvedRefs",
        ),
    ],
)
def test_without_a_certificate_to_trust_nothing_is_connected(
    validation: Json, found: ConfigMap | None, accepted: str, resolved: str
) -> None:
    one = policy(**validation)
    there = {NamespacedName("app", "ca"): found}
    came_to = authorities(one, TrustSources(config_map=there.get))
    assert isinstance(backend_tls(one, came_to), RefusedTls)
    told = _summary(policy_conditions(one, came_to, {}))
    assert told["Accepted"] == (False, accepted)
    assert told["ResolvedRefs"][1] == resolved


def test_a_good_reference_serves_beside_a_bad_one() -> None:
    one = policy(caCertificateRefs=[{**CA, "name": "nowhere"}, CA])
    came_to = authorities(one, known())
    assert isinstance(backend_tls(one, came_to), BackendTls)
    assert _summary(policy_conditions(one, came_to, {})) == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (False, "InvalidCACertificateRef"),
    }


def test_config_maps_that_policies_name_are_read_and_no_others() -> None:
    every = [policy(), policy("b", caCertificateRefs=[{**CA, "kind": "X"}, BUNDLE])]
    assert watched_config_maps(every) == {NamespacedName("app", "ca")}
    assert watched_bundles(every) == {NamespacedName("", "roots")}


@pytest.mark.parametrize(
    ("found", "reason", "message"),
    [
        (bundle(PEM), "", ""),
        (
            bundle("-"),
            "InvalidCACertificateRef",
            "ClusterTrustBundle roots: spec.trustBundle holds no certificate",
        ),
        (None, "InvalidCACertificateRef", "ClusterTrustBundle roots does not exist"),
        (
            broken_bundle("cannot be read: 403", unseen=True),
            "InvalidCACertificateRef",
            "ClusterTrustBundle roots cannot be read: 403",
        ),
        (
            broken_bundle("what it says", unseen=False),
            "InvalidCACertificateRef",
            "ClusterTrustBundle roots cannot be read",
        ),
    ],
)
def test_a_bundle_of_the_cluster_is_trusted_in_every_namespace(
    found: ClusterTrustBundle | Broken | None, reason: str, message: str
) -> None:
    accepted = not reason
    one = policy(caCertificateRefs=[BUNDLE])
    came_to = authorities(one, TrustSources(bundle=lambda _: found))
    assert isinstance(backend_tls(one, came_to), BackendTls if accepted else RefusedTls)
    told = policy_conditions(one, came_to, {})
    assert _summary(told) == {
        "Accepted": (accepted, "Accepted" if accepted else "NoValidCACertificate"),
        "ResolvedRefs": (accepted, reason or "ResolvedRefs"),
    }
    assert message in told[1].message
    assert "what it says" not in told[1].message


def test_the_systems_authorities_are_trusted_where_there_are_any() -> None:
    one = policy(caCertificateRefs=[], wellKnownCACertificates="System")
    with_them, without = (authorities(one, TrustSources(system=known)) for known in (True, False))
    tls = backend_tls(one, with_them)
    assert isinstance(tls, BackendTls)
    assert (tls.system, tls.authorities) == (True, b"")
    assert isinstance(backend_tls(one, without), RefusedTls)
    accepted = policy_conditions(one, without, {})[0]
    assert (accepted.status, accepted.reason) == (False, "Invalid")
    assert "--system-authorities" in accepted.message


def test_no_other_well_known_authorities_are_known() -> None:
    one = policy(caCertificateRefs=[], wellKnownCACertificates="acme.io/ours")
    came_to = authorities(one, TrustSources(system=True))
    assert isinstance(backend_tls(one, came_to), RefusedTls)
    told = _summary(policy_conditions(one, came_to, {}))
    assert told["Accepted"] == (False, "Invalid")


@pytest.mark.parametrize(
    "validation",
    [
        {"caCertificateRefs": []},
        {"wellKnownCACertificates": "System"},
        {"hostname": "*.test"},
        {"subjectAltNames": [{"type": "URI", "hostname": "a.test"}]},
    ],
)
def test_what_the_crd_forbids_cannot_be_read(validation: Json) -> None:
    given = {"caCertificateRefs": [CA], "hostname": "web.test", **validation}
    target = {"group": "", "kind": "Service", "name": "web"}
    spec = {"targetRefs": [target], "validation": given}
    assert isinstance(_decoded("policy", spec, "2026-01-01"), Broken)
