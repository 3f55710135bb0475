"""The official suite's own objects, compiled: what it expects of statuses, without any cluster.

The objects are read out of the suite's Go module, never copied here. What each test expects is
written down here in short; the suite itself (`make conformance`) has the last word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.controlplane.kinds import known_kinds
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.sources.file import load
from support.kube import MissingProgramError, tool

INFRA, WEB = "gateway-conformance-infra", "gateway-conformance-web-backend"
CLASS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata:
  name: tested
spec:
  controllerName: penstock.dev/gateway-controller
"""


class Compiled(msgspec.Struct, frozen=True):
    statuses: dict[str, dict[str, Any]]
    """By "Kind namespace/name"."""

    def gateway(self, name: str) -> dict[str, Any]:
        return self.statuses[f"Gateway {INFRA}/{name}"]

    def listener(self, gateway: str, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.gateway(gateway)["listeners"] if one["name"] == name]
        return dict(found)

    def parents(self, route: str, namespace: str = INFRA) -> list[dict[str, Any]]:
        return list(self.statuses[f"HTTPRoute {namespace}/{route}"]["parents"])


def _conditions(status: dict[str, Any]) -> dict[str, str]:
    """Return type → "True" or the reason of what is not true."""
    return {
        one["type"]: "True" if one["status"] == "True" else one["reason"]
        for one in status["conditions"]
    }


@pytest.fixture
def compiled(tmp_path: Path, request: pytest.FixtureRequest) -> Compiled:
    """Compile the base and the manifests that the test names."""
    try:
        manifests = tool("conformance", "sigs.k8s.io/gateway-api/conformance", "manifests")
    except MissingProgramError as error:
        pytest.skip(str(error))
    (tmp_path / "class.yaml").write_text(CLASS)
    names = ["base/manifests.yaml", *(f"tests/{one}.yaml" for one in request.param)]
    for index, name in enumerate(names):
        text = (manifests / name).read_text().replace("{GATEWAY_CLASS_NAME}", "tested")
        (tmp_path / f"{index}.yaml").write_text(text)
    compiler = Compiler(Settings())
    loaded = load([tmp_path], known_kinds()).objects
    compiler.apply([Event(EventType.ADDED, one) for one in loaded])
    assert compiler.failures == {}
    return Compiled({str(one.ref): found for one in loaded if (found := _status(compiler, one))})


def _status(compiler: Compiler, thing: Object | Broken) -> dict[str, Any] | None:
    return status_of(compiler.db, thing, lambda _: None)


def of(*manifests: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("compiled", [manifests], indirect=True, ids=[manifests[0]])


def _kinds(listener: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in listener["supportedKinds"]]


# Gateways


@of("gateway-invalid-listeners-unsupported-protocol")
def test_a_protocol_that_is_not_served(compiled: Compiled) -> None:
    only = compiled.gateway("gateway-only-unsupported-protocols")
    assert _conditions(only)["Accepted"] == "ListenersNotValid"
    both = compiled.gateway("gateway-supported-and-unsupported-protocols")
    assert _conditions(both)["Accepted"] == "True"
    assert both["conditions"][0]["reason"] == "ListenersNotValid"
    for gateway in (
        "gateway-only-unsupported-protocols",
        "gateway-supported-and-unsupported-protocols",
    ):
        invalid = compiled.listener(gateway, "invalid")
        assert _kinds(invalid) == []
        assert _conditions(invalid)["Accepted"] == "UnsupportedProtocol"
    http = compiled.listener("gateway-supported-and-unsupported-protocols", "http")
    assert (_kinds(http), _conditions(http)["Accepted"]) == (["HTTPRoute", "GRPCRoute"], "True")


@of("gateway-invalid-route-kind")
def test_kinds_of_routes_that_there_are_not(compiled: Compiled) -> None:
    only = compiled.listener("gateway-only-invalid-route-kind", "http")
    assert (_kinds(only), _conditions(only)["ResolvedRefs"]) == ([], "InvalidRouteKinds")
    both = compiled.listener("gateway-supported-and-invalid-route-kind", "http")
    assert (_kinds(both), _conditions(both)["ResolvedRefs"]) == (["HTTPRoute"], "InvalidRouteKinds")


@of("gateway-invalid-tls-configuration")
@pytest.mark.parametrize(
    "what", ["nonexistent-secret", "unsupported-group", "unsupported-kind", "malformed-secret"]
)
def test_certificates_that_are_none(compiled: Compiled, what: str) -> None:
    https = compiled.listener(f"gateway-certificate-{what}", "https")
    assert _kinds(https) == ["HTTPRoute", "GRPCRoute"]
    assert _conditions(https)["ResolvedRefs"] == "InvalidCertificateRef"


@of("gateway-secret-invalid-reference-grant")
def test_grants_that_do_not_fit_permit_no_certificate(compiled: Compiled) -> None:
    https = compiled.listener("gateway-secret-invalid-reference-grant", "https")
    assert _kinds(https) == ["HTTPRoute", "GRPCRoute"]
    assert _conditions(https)["ResolvedRefs"] == "RefNotPermitted"


@of("gateway-secret-missing-reference-grant")
def test_no_grant_permits_no_certificate(compiled: Compiled) -> None:
    https = compiled.listener("gateway-secret-missing-reference-grant", "https")
    assert _conditions(https)["ResolvedRefs"] == "RefNotPermitted"


@of("gateway-with-attached-routes", "gateway-with-attached-routes-with-port-8080")
def test_accepted_routes_are_counted(compiled: Compiled) -> None:
    def counted(gateway: str, listener: str) -> int:
        return int(compiled.listener(gateway, listener)["attachedRoutes"])

    assert counted("gateway-with-one-attached-route", "http") == 1
    assert counted("gateway-with-two-attached-routes", "http") == 2
    assert counted("gateway-with-two-listeners-and-one-attached-route", "http") == 1
    assert counted("gateway-with-two-listeners-and-one-attached-route", "http-unattached") == 0
    unresolved = "unresolved-gateway-with-one-attached-unresolved-route"
    assert counted(unresolved, "tls") == 1
    tls = _conditions(compiled.listener(unresolved, "tls"))
    assert (tls["Programmed"], tls["ResolvedRefs"]) != ("True", "True")
    (parent,) = compiled.parents("http-route-not-accepted")
    assert _conditions(parent)["Accepted"] == "NoMatchingListenerHostname"
    (parent,) = compiled.parents("http-route-4")
    assert _conditions(parent)["ResolvedRefs"] == "BackendNotFound"


@of("gatewayclass-observed-generation-bump")
def test_a_class_is_accepted_and_says_what_is_served(compiled: Compiled) -> None:
    status = compiled.statuses["GatewayClass tested"]
    assert _conditions(status) == {"Accepted": "True"}
    names = [one["name"] for one in status["supportedFeatures"]]
    assert names == sorted(names)


# Routes


def _first_name(value: object) -> str:
    return str(value[0]) if isinstance(value, list) else ""


@pytest.mark.parametrize(
    ("compiled", "route", "conditions"),
    [
        (
            ["httproute-invalid-backendref-unknown-kind"],
            "invalid-backend-ref-unknown-kind",
            {"Accepted": "True", "ResolvedRefs": "InvalidKind"},
        ),
        (
            ["httproute-invalid-cross-namespace-backend-ref"],
            "invalid-cross-namespace-backend-ref",
            {"Accepted": "True", "ResolvedRefs": "RefNotPermitted"},
        ),
        (
            ["httproute-invalid-nonexistent-backendref"],
            "invalid-nonexistent-backend-ref",
            {"Accepted": "True", "ResolvedRefs": "BackendNotFound"},
        ),
        (
            ["httproute-invalid-parentref-not-matching-section-name"],
            "httproute-listener-not-matching-section-name",
            {"Accepted": "NoMatchingParent", "ResolvedRefs": "True"},
        ),
        (
            ["httproute-invalid-parentref-not-matching-listener-port"],
            "httproute-listener-not-matching-route-port",
            {"Accepted": "NoMatchingParent", "ResolvedRefs": "True"},
        ),
        (
            ["httproute-invalid-parentref-section-name-not-matching-port"],
            "httproute-listener-section-name-not-matching-port",
            {"Accepted": "NoMatchingParent", "ResolvedRefs": "True"},
        ),
        (
            ["httproute-invalid-reference-grant"],
            "reference-grant",
            {"Accepted": "True", "ResolvedRefs": "RefNotPermitted"},
        ),
        (
            ["httproute-partially-invalid-via-invalid-reference-grant"],
            "invalid-reference-grant",
            {"Accepted": "True", "ResolvedRefs": "RefNotPermitted"},
        ),
        (
            ["httproute-hostname-intersection"],
            "no-intersecting-hosts",
            {"Accepted": "NoMatchingListenerHostname", "ResolvedRefs": "True"},
        ),
    ],
    indirect=["compiled"],
    ids=_first_name,
)
def test_routes_that_are_not_served_say_why(
    compiled: Compiled, route: str, conditions: dict[str, str]
) -> None:
    (parent,) = compiled.parents(route)
    assert _conditions(parent) == conditions


@of("httproute-invalid-cross-namespace-parent-ref")
def test_a_route_of_another_namespace_is_not_welcome(compiled: Compiled) -> None:
    (parent,) = compiled.parents("invalid-cross-namespace-parent-ref", WEB)
    assert _conditions(parent) == {"Accepted": "NotAllowedByListeners", "ResolvedRefs": "True"}
    assert compiled.listener("same-namespace", "http")["attachedRoutes"] == 0


@of("httproute-hostname-intersection")
def test_routes_are_counted_where_hostnames_meet(compiled: Compiled) -> None:
    counts = [
        compiled.listener("httproute-hostname-intersection", f"listener-{number}")["attachedRoutes"]
        for number in (1, 2, 3)
    ]
    assert counts == [2, 1, 1]


# ListenerSets


@of("listenerset-hostname-conflict")
def test_listeners_of_sets_lose_against_those_before_them(compiled: Compiled) -> None:
    gateway = compiled.gateway("gateway-with-listenerset-hostname-conflict")
    assert gateway["attachedListenerSets"] == 2
    prefix = f"ListenerSet {INFRA}/listenerset-with-hostname-conflict-with-"
    found = {
        name: _conditions(compiled.statuses[prefix + name])["Accepted"]
        for name in ("gateway-1", "gateway-2", "listener-set-1", "listener-set-2")
    }
    assert found == {
        "gateway-1": "True",
        "gateway-2": "ListenersNotValid",
        "listener-set-1": "True",
        "listener-set-2": "ListenersNotValid",
    }


@of("listenerset-dual-parentref-independence")
def test_gateway_and_set_judge_a_route_each_for_itself(compiled: Compiled) -> None:
    found = [_conditions(one)["Accepted"] for one in compiled.parents("route-dual-parentref-one")]
    assert found == ["NoMatchingParent", "True"]


# BackendTLSPolicies


@of("backendtlspolicy-conflict-resolution")
def test_of_policies_for_one_port_one_is_accepted(compiled: Compiled) -> None:
    found = {
        ref.rpartition("/")[2]: _conditions(status["ancestors"][0])["Accepted"]
        for ref, status in compiled.statuses.items()
        if ref.startswith("BackendTLSPolicy")
    }
    # The suite's certificates are made as it runs.
    assert found == {
        "conflicted-without-section-name-1": "NoValidCACertificate",
        "conflicted-without-section-name-2": "Conflicted",
        "conflicted-with-section-name-1": "NoValidCACertificate",
        "conflicted-with-section-name-2": "Conflicted",
        "not-conflicted-with-section-name": "NoValidCACertificate",
        "not-conflicted-without-section-name": "NoValidCACertificate",
    }


SERVED = (
    "gateway-http-listener-isolation",
    "httproute-303-redirect",
    "httproute-307-redirect",
    "httproute-308-redirect",
    "httproute-backend-protocol-h2c",
    "httproute-backend-protocol-websocket",
    "httproute-cors",
    "httproute-cross-namespace",
    "httproute-exact-path-matching",
    "httproute-header-matching",
    "httproute-https-listener",
    "httproute-listener-hostname-matching",
    "httproute-listener-port-matching",
    "httproute-matching",
    "httproute-matching-across-routes",
    "httproute-method-matching",
    "httproute-multiple-gateways",
    "httproute-named-rule",
    "httproute-observed-generation-bump",
    "httproute-omitted-backendrefs",
    "httproute-path-match-order",
    "httproute-query-param-matching",
    "httproute-redirect-host-and-status",
    "httproute-redirect-path",
    "httproute-redirect-port",
    "httproute-redirect-port-and-scheme",
    "httproute-redirect-scheme",
    "httproute-reference-grant",
    "httproute-request-header-modifier",
    "httproute-request-header-modifier-backend",
    "httproute-request-header-modifier-backend-weights",
    "httproute-request-mirror",
    "httproute-request-multiple-mirrors",
    "httproute-request-percentage-mirror",
    "httproute-response-header-modifier",
    "httproute-retry",
    "httproute-rewrite-host",
    "httproute-rewrite-path",
    "httproute-service-types",
    "httproute-simple-same-namespace",
    "httproute-timeout-backend-request",
    "httproute-timeout-request",
    "httproute-weight",
    "listenerset-http-routing",
    "listenerset-route-status-scoped-to-parentref",
)
"""Tests of which every route is served as written."""


@pytest.mark.parametrize("compiled", [[one] for one in SERVED], indirect=True, ids=SERVED)
def test_every_route_is_accepted_and_its_references_are_resolved(compiled: Compiled) -> None:
    routes = {ref: one for ref, one in compiled.statuses.items() if ref.startswith("HTTPRoute")}
    assert routes
    for ref, status in routes.items():
        for parent in status["parents"]:
            assert _conditions(parent) == {"Accepted": "True", "ResolvedRefs": "True"}, ref
