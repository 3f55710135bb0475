"""Every reason of BackendTLSPolicies and XBackendTrafficPolicies, provoked.

The list of the former is gateway.md's, §5.4; that of the latter is GEP-713's.
"""

from __future__ import annotations

import pytest

from support import objects
from support.pki import issue
from support.reasons import Case, Json, Thing, case, check, check_list

X = "gateway.networking.x-k8s.io"
GATEWAY = objects.gateway("gw", [{"name": "web", "protocol": "HTTP", "port": 80}])
WEB = objects.service("web", "10.96.0.1")
ROUTE = objects.http_route("r", parent={"name": "gw"}, backends=[("web", 1)])
WORLD = (GATEWAY, WEB, ROUTE)
AUTHORITY = objects.made({
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "shop"},
    "data": {"ca.crt": issue("authority").pem},
})  # fmt: skip
CA: Json = {"group": "", "kind": "ConfigMap", "name": "ca"}


def of(kind: str, api: str, name: str, since: str, spec: Json) -> Thing:
    head = {"name": name, "namespace": "shop", "generation": 4, "creationTimestamp": since}
    return objects.made({"apiVersion": api, "kind": kind, "metadata": head, "spec": spec})


def tls(
    *refs: Json, name: str = "p", since: str = "", target: str = "web", port: str = "", **more: str
) -> Thing:
    section = {"sectionName": port} if port else {}
    spec: Json = {
        "targetRefs": [{"group": "", "kind": "Service", "name": target, **section}],
        "validation": {"hostname": "web.test", **more},
    }
    if refs:
        spec["validation"]["caCertificateRefs"] = list(refs)
    return of("BackendTLSPolicy", "gateway.networking.k8s.io/v1", name, since, spec)


def traffic(
    name: str = "p", since: str = "", target: str = "web", kind: str = "Service", **spec: object
) -> Thing:
    group = "" if kind == "Service" else "x.test"
    refs = {"targetRefs": [{"group": group, "kind": kind, "name": target}]}
    return of("XBackendTrafficPolicy", f"{X}/v1alpha1", name, since, {**refs, **spec})


OLDER, YOUNGER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
WITH_TLS = (
    case("a policy with an authority is accepted", "BackendTLSPolicy Accepted True Accepted",
         tls(CA), AUTHORITY, *WORLD),
    case("of two for one Service the younger is conflicted",
         "BackendTLSPolicy Accepted False Conflicted",
         tls(CA, name="a", since=YOUNGER), tls(CA, name="z", since=OLDER), AUTHORITY, *WORLD),
    case("authorities of the system that there are not are invalid",
         "BackendTLSPolicy Accepted False Invalid",
         tls(wellKnownCACertificates="System"), *WORLD),
    case("a port that a Service has not is not found",
         "BackendTLSPolicy Accepted False TargetNotFound", tls(CA, port="none"), AUTHORITY, *WORLD),
    case("without any authority nobody is trusted",
         "BackendTLSPolicy Accepted False NoValidCACertificate", tls(CA), *WORLD),
    case("an authority that is there is resolved",
         "BackendTLSPolicy ResolvedRefs True ResolvedRefs",
         tls(CA), AUTHORITY, *WORLD),
    case("an authority that is not there is told, beside one that is",
         "BackendTLSPolicy ResolvedRefs False InvalidCACertificateRef",
         tls(CA, CA | {"name": "none"}), AUTHORITY, *WORLD),
    case("an authority of a kind that holds none is told",
         "BackendTLSPolicy ResolvedRefs False InvalidKind",
         tls(CA | {"kind": "Secret"}), AUTHORITY, *WORLD),
)  # fmt: skip
OF_TRAFFIC = (
    case("a policy for a Service is accepted", "XBackendTrafficPolicy Accepted True Accepted",
         traffic(), *WORLD),
    case("of two for one Service the younger is conflicted",
         "XBackendTrafficPolicy Accepted False Conflicted",
         traffic("a", YOUNGER), traffic("z", OLDER), *WORLD),
    case("what is no Service is no target", "XBackendTrafficPolicy Accepted False Invalid",
         traffic(kind="Thing"), *WORLD),
    case("a Service that is not there is not found",
         "XBackendTrafficPolicy Accepted False TargetNotFound", traffic(target="none"), *WORLD),
)  # fmt: skip
CASES = (*WITH_TLS, *OF_TRAFFIC)
LISTED = {
    "BackendTLSPolicy": """
        Accepted True Accepted
        Accepted False Conflicted Invalid TargetNotFound NoValidCACertificate
        ResolvedRefs True ResolvedRefs
        ResolvedRefs False InvalidCACertificateRef InvalidKind""",
    "XBackendTrafficPolicy": """
        Accepted True Accepted
        Accepted False Conflicted Invalid TargetNotFound""",
}


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.reason[0]}: {one.fact}")
def test_reason(one: Case) -> None:
    check(one)


@pytest.mark.parametrize("whose", LISTED)
def test_every_reason_that_is_listed_is_provoked(whose: str) -> None:
    check_list(whose, LISTED[whose], CASES)
