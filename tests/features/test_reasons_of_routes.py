"""Every reason that a route can be given, provoked; the list of them is gateway.md's, §5.4."""

from __future__ import annotations

import pytest

from support import objects
from support.pki import issue
from support.reasons import Case, Json, Thing, case, check, check_list, conditions

GATEWAY = objects.gateway("gw", [
    {"name": "web", "protocol": "HTTP", "port": 80, "hostname": "*.a.test"},
    {"name": "tcp", "protocol": "TCP", "port": 90},
])  # fmt: skip
WEB = objects.service("web", "10.96.0.1")
BACKEND: Json = {"name": "web", "port": 80}
BAD_PATH: Json = {"path": {"type": "RegularExpression", "value": "("}}


def route(
    *rules: Json, kind: str = "HTTPRoute", parent: Json | None = None, **spec: object
) -> Thing:
    written = [rule or {"backendRefs": [BACKEND]} for rule in rules or ({},)]
    parents = [{"name": "gw"} | (parent or {})]
    return objects.gateway_api(kind, "r", {"parentRefs": parents, "rules": written, **spec})


def on_service(kind: str, rule: Json | None = None, **spec: object) -> Thing:
    rules = [rule or {"backendRefs": [BACKEND]}]
    return objects.gateway_api(
        kind, "r", {"parentRefs": [objects.on_service("web")], "rules": rules, **spec}
    )


def redirecting(*more: Json) -> Json:
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "b.test"}}
    return {"filters": [redirect, *more]}


PICKED = objects.xbackend("picked", {"app": "web"})
TO_PICKED = route({"backendRefs": [objects.backend_ref("picked")]})


def tls_of(kind: str, **more: object) -> Json:
    """Return TLS of an XBackend, whose authority is in an object of a kind, which is not there."""
    refs = [{"group": "", "kind": kind, "name": "ca"}]
    mode = "ClientAndServer" if more else "ServerOnly"
    return {"mode": mode, "validation": {"hostname": "h", "caCertificateRefs": refs}, **more}


VALIDATED, OF_A_SECRET = tls_of("ConfigMap"), tls_of("Secret")
MUTUAL = tls_of("ConfigMap", clientCertificateRef={"name": "client"})
THEIRS = tls_of("ConfigMap", clientCertificateRef={"name": "client", "namespace": "other"})
AUTHORITY = objects.made({
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "shop"},
    "data": {"ca.crt": issue("authority").pem},
})  # fmt: skip
REWRITE: Json = {"type": "URLRewrite", "urlRewrite": {"hostname": "c.test"}}

CASES = (
    case("a route that its listener takes is accepted",
         "Route Accepted True Accepted", route(), GATEWAY, WEB),
    case("a route of another namespace is not admitted",
         "Route Accepted False NotAllowedByListeners",
         objects.gateway_api("HTTPRoute", "r", {"parentRefs": [{"name": "gw", "namespace": "shop"}],
                                "rules": [{"backendRefs": [BACKEND]}]}, "other"), GATEWAY),
    case("an HTTPRoute is not admitted by a listener for TCP",
         "Route Accepted False NotAllowedByListeners",
         route(parent={"sectionName": "tcp"}), GATEWAY, WEB),
    case("a TCPRoute is not admitted by a listener for HTTP",
         "Route Accepted False NotAllowedByListeners",
         route(kind="TCPRoute", parent={"sectionName": "web"}), GATEWAY, WEB),
    case("a route for other hosts has no hostname in common with the listener",
         "Route Accepted False NoMatchingListenerHostname",
         route(hostnames=["b.test"]), GATEWAY, WEB),
    case("a section that the Gateway has not is no parent",
         "Route Accepted False NoMatchingParent",
         route(parent={"sectionName": "none"}), GATEWAY, WEB),
    case("a port that the Gateway has not is no parent",
         "Route Accepted False NoMatchingParent", route(parent={"port": 9}), GATEWAY, WEB),
    case("a route whose only rule cannot be served is not accepted",
         "Route Accepted False UnsupportedValue",
         route({"matches": [BAD_PATH], "backendRefs": [BACKEND]}), GATEWAY, WEB),
    case("a route that cannot be read is not accepted",
         "Route Accepted False UnsupportedValue", route({"noSuchField": 1}), GATEWAY, WEB),
    case("filters that contradict each other are incompatible",
         "Route Accepted False IncompatibleFilters", route(redirecting(REWRITE)), GATEWAY, WEB),
    case("of two kinds of routes for one hostname the older one's is accepted alone",
         "Route Accepted False Conflicted", route(kind="GRPCRoute"),
         objects.gateway_api("HTTPRoute", "a", {"parentRefs": [{"name": "gw"}]}), GATEWAY, WEB),
    case("a TCPRoute on a Service holds for its ports",
         "Route Accepted True Accepted", on_service("TCPRoute"), WEB),
    case("a UDPRoute on a Service asks for a port of UDP",
         "Route Accepted False NoMatchingParent", on_service("UDPRoute"), WEB),
    case("a TLSRoute goes before a TCPRoute on a port of a Service",
         "Route Accepted False Conflicted", on_service("TCPRoute"), WEB,
         objects.gateway_api("TLSRoute", "t", {
             "parentRefs": [objects.on_service("web")], "hostnames": ["a.test"],
             "rules": [{"backendRefs": [BACKEND]}]})),
    case("an HTTPRoute goes before a TLSRoute on a port of a Service",
         "Route Accepted False Conflicted", on_service("TLSRoute", hostnames=["a.test"]),
         objects.gateway_api("HTTPRoute", "h", {"parentRefs": [objects.on_service("web")]}), WEB),
    case("an HTTPRoute goes before a TCPRoute on a port of a Service",
         "Route Accepted False Conflicted", on_service("TCPRoute"),
         objects.gateway_api("HTTPRoute", "h", {"parentRefs": [objects.on_service("web")]}), WEB),
    case("a backend of a TCPRoute on a Service that is not there is not found",
         "Route ResolvedRefs False BackendNotFound",
         on_service("TCPRoute", {"backendRefs": [BACKEND | {"name": "none"}]}), WEB),
    case("references that lead somewhere are resolved",
         "Route ResolvedRefs True ResolvedRefs", route(), GATEWAY, WEB),
    case("a backend of another namespace needs a grant",
         "Route ResolvedRefs False RefNotPermitted",
         route({"backendRefs": [BACKEND | {"namespace": "other"}]}), GATEWAY, WEB),
    case("a backend is a Service",
         "Route ResolvedRefs False InvalidKind",
         route({"backendRefs": [BACKEND | {"kind": "ConfigMap"}]}), GATEWAY, WEB),
    case("a Service that is not there is not found",
         "Route ResolvedRefs False BackendNotFound", route(), GATEWAY),
    case("a port that the Service has not is not found",
         "Route ResolvedRefs False BackendNotFound",
         route({"backendRefs": [BACKEND | {"port": 81}]}), GATEWAY, WEB),
    case("a protocol of the Service that Gateways do not speak is not supported",
         "Route ResolvedRefs False UnsupportedProtocol",
         route(kind="GRPCRoute"), GATEWAY,
         objects.service("web", "10.96.0.1", app_protocol="kubernetes.io/ws")),
    case("references of a route that cannot be read are not known",
         "Route ResolvedRefs Unknown Pending", route({"noSuchField": 1}), GATEWAY, WEB),
    case("one rule of two with a bad expression is dropped",
         "Route PartiallyInvalid True UnsupportedValue",
         route({}, {"matches": [BAD_PATH], "backendRefs": [BACKEND]}), GATEWAY, WEB),
    case("one rule of two with contradicting filters is dropped",
         "Route PartiallyInvalid True IncompatibleFilters",
         route({}, redirecting(REWRITE)), GATEWAY, WEB),
    case("a match behind an equal one of an older route is shadowed",
         "Route Overlapped True Shadowed", route(),
         objects.gateway_api("HTTPRoute", "a", {"parentRefs": [{"name": "gw"}]}), GATEWAY, WEB),
    case("an XBackend says itself which port it is",
         "Route ResolvedRefs False BackendNotFound",
         route({"backendRefs": [objects.backend_ref("picked") | {"port": 80}]}), GATEWAY,
         objects.xbackend("picked", {"app": "web"})),
    case("an XBackend that cannot be kept is nothing that is spoken to",
         "Route ResolvedRefs False UnsupportedProtocol",
         route({"backendRefs": [objects.backend_ref("picked")]}), GATEWAY,
         objects.xbackend("picked", {"app": "web"}, protocol="HTTP2")),
    case("an XBackend is accepted", "XBackend Accepted True Accepted",
         PICKED, GATEWAY, TO_PICKED),
    case("what contradicts itself is no place to send to", "XBackend Accepted False Invalid",
         objects.xbackend("picked", {"app": "web"}, protocol="WSS"), GATEWAY, TO_PICKED),
    case("without authorities nobody is trusted",
         "XBackend Accepted False NoValidCACertificate",
         objects.xbackend("picked", {"app": "web"}, tls=VALIDATED), GATEWAY, TO_PICKED),
    case("without its certificate an XBackend cannot be met",
         "XBackend Accepted False InvalidClientCertificateRef",
         objects.xbackend("picked", {"app": "web"}, tls=MUTUAL), GATEWAY, TO_PICKED,
         AUTHORITY),
    case("a certificate of another namespace needs a grant",
         "XBackend Accepted False RefNotPermitted",
         objects.xbackend("picked", {"app": "web"}, tls=THEIRS), GATEWAY, TO_PICKED,
         AUTHORITY),
    case("references of an XBackend that lead somewhere are resolved",
         "XBackend ResolvedRefs True ResolvedRefs", PICKED, GATEWAY, TO_PICKED),
    case("an authority that is not there is told of",
         "XBackend ResolvedRefs False InvalidCACertificateRef",
         objects.xbackend("picked", {"app": "web"}, tls=VALIDATED), GATEWAY, TO_PICKED),
    case("an authority of a kind that holds none is told of",
         "XBackend ResolvedRefs False InvalidKind",
         objects.xbackend("picked", {"app": "web"}, tls=OF_A_SECRET), GATEWAY, TO_PICKED),
    case("a certificate that is not there is told of",
         "XBackend ResolvedRefs False InvalidClientCertificateRef",
         objects.xbackend("picked", {"app": "web"}, tls=MUTUAL), GATEWAY, TO_PICKED,
         AUTHORITY),
    case("a certificate that may not be read is told of",
         "XBackend ResolvedRefs False RefNotPermitted",
         objects.xbackend("picked", {"app": "web"}, tls=THEIRS), GATEWAY, TO_PICKED,
         AUTHORITY),
    case("a mesh of ours is accepted", "XMesh Accepted True Accepted",
         objects.made({"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XMesh",
                       "metadata": {"name": "m"},
                       "spec": {"controllerName": objects.CONTROLLER}})),
    case("a mesh takes no parameters", "XMesh Accepted False InvalidParameters",
         objects.made({"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XMesh",
                       "metadata": {"name": "m"},
                       "spec": {"controllerName": objects.CONTROLLER,
                                "parametersRef": {"group": "", "kind": "ConfigMap",
                                                  "name": "c"}}})),
)  # fmt: skip

LISTED = {
    "Route": """
        Accepted True Accepted
        Accepted False NotAllowedByListeners NoMatchingListenerHostname NoMatchingParent
        Accepted False UnsupportedValue IncompatibleFilters Conflicted
        Accepted Unknown Pending
        ResolvedRefs True ResolvedRefs
        ResolvedRefs False RefNotPermitted InvalidKind BackendNotFound UnsupportedProtocol
        ResolvedRefs Unknown Pending
        PartiallyInvalid True UnsupportedValue IncompatibleFilters
        Overlapped True Shadowed""",
    "XBackend": """
        Accepted True Accepted
        Accepted False Invalid NoValidCACertificate InvalidClientCertificateRef RefNotPermitted
        ResolvedRefs True ResolvedRefs
        ResolvedRefs False InvalidCACertificateRef InvalidKind InvalidClientCertificateRef
        ResolvedRefs False RefNotPermitted""",
    "XMesh": """
        Accepted True Accepted
        Accepted False InvalidParameters
        Accepted Unknown Pending""",
}
NEVER = {
    ("Route", "Accepted", "Unknown", "Pending"): "attachment is decided before anything is written",
    ("XMesh", "Accepted", "Unknown", "Pending"): "the API server's default, which ours replaces",
}
"""What is never said, and why."""


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.fact)
def test_reason(one: Case) -> None:
    check(one)


@pytest.mark.parametrize("whose", LISTED)
def test_every_reason_that_is_listed_is_provoked_or_has_a_cause_never_to_be(whose: str) -> None:
    check_list(whose, LISTED[whose], CASES, NEVER)


def test_partially_invalid_begins_with_the_words_of_the_specification() -> None:
    for one in CASES:
        if one.reason[1] == "PartiallyInvalid":
            said = {each["type"]: each["message"] for each in conditions(one)}
            assert said["PartiallyInvalid"].startswith("Dropped Rule 1, answered with 500: ")
            assert "spec.rules[1]." in said["PartiallyInvalid"]
