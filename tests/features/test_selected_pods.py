"""XBackends that select pods: who is sent to, what a change touches, and who is judged."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.core.pods import Pod
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects, streams
from support.pki import issue, tls_secret_raw

Thing = Object | Broken
AT_GATEWAYS, IN_MESH = "gw|shop/~picked", "mesh|shop/~picked"
WEB = {"app": "web", "track": "stable"}
AUTHORITY = issue("authority")


def pod(name: str, ip: str, *, ready: bool = True, **labels: str) -> Thing:
    return objects.pod(name, ip, labels or WEB, ready=ready)


def route(*backends: tuple[str, int], parent: dict[str, Any] | None = None) -> Thing:
    at = parent or {"name": "front"}
    return objects.http_route("r", parent=at, backends=backends or [("picked", 1)])


def world(*more: Thing) -> list[Thing]:
    return [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.service("api", "10.96.0.1"),
        objects.endpoint_slice("api", ["10.244.0.9"]),
        pod("web-0", "10.244.0.1"),
        pod("web-1", "10.244.0.2"),
        pod("canary", "10.244.0.3", app="web", track="canary"),
        *more,
    ]


def compiled(*more: Thing) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(world(*more)))
    assert compiler.failures == {}
    return compiler


def picked(port: int = 8080, **spec: Any) -> Thing:
    return objects.xbackend("picked", WEB, port=port, **spec)


def apply(compiler: Compiler, thing: Thing, kind: EventType = EventType.MODIFIED) -> set[str]:
    """Return types and names of what came or changed because of one object."""
    changes = compiler.apply([Event(kind, thing)])
    assert compiler.failures == {}
    return {
        f"{types.short(one.type_url)} {one.name}"
        for change in changes
        for one in change.delta.upserts
    }


def named(compiler: Compiler, type_url: str, name: str) -> Resource | None:
    found = [
        one for one in compiler.resources("n1") if (one.type_url, one.name) == (type_url, name)
    ]
    return found[0] if found else None


def endpoints(compiler: Compiler, name: str = AT_GATEWAYS) -> list[str]:
    resource = named(compiler, types.ENDPOINTS, name)
    assert resource is not None
    made = endpoint_pb2.ClusterLoadAssignment.FromString(resource.body)
    places = [one.endpoint.address.socket_address for one in made.endpoints[0].lb_endpoints]
    return [f"{one.address}:{one.port_value}" for one in places]


def cluster(compiler: Compiler, name: str = AT_GATEWAYS) -> cluster_pb2.Cluster:
    resource = named(compiler, types.CLUSTER, name)
    assert resource is not None
    return cluster_pb2.Cluster.FromString(resource.body)


def spoken(made: cluster_pb2.Cluster) -> str:
    (packed,) = made.typed_extension_protocol_options.values()
    options = options_pb2.HttpProtocolOptions.FromString(packed.value)
    if options.HasField("use_downstream_protocol_config"):
        return "same"
    explicit = options.explicit_http_config
    return "HTTP/2" if explicit.HasField("http2_protocol_options") else "HTTP/1.1"


def condition(compiler: Compiler, thing: Thing, kind: str, at: int = 0) -> tuple[str, str, str]:
    """Return status, reason and message of a condition at the first parent or ancestor."""
    status = status_of(compiler.db, thing, lambda _: None)
    assert status is not None
    entry = (status.get("parents") or status["ancestors"])[at]
    (found,) = [one for one in entry["conditions"] if one["type"] == kind]
    return found["status"], found["reason"], found["message"]


# --- who is sent to -----------------------------------------------------------------------------


def test_those_are_sent_to_that_have_all_labels_and_are_ready() -> None:
    compiler = compiled(
        picked(),
        route(),
        pod("web-2", "10.244.0.4", ready=False),
        objects.pod("web-0", "10.244.9.1", WEB, "other"),
        objects.pod("web-3", "", WEB),
    )
    assert endpoints(compiler) == ["10.244.0.1:8080", "10.244.0.2:8080"]


def test_pods_come_and_go_by_endpoints_alone() -> None:
    compiler = compiled(picked(), route())
    only = {f"ClusterLoadAssignment {AT_GATEWAYS}"}
    assert apply(compiler, pod("web-1", "10.244.0.2", ready=False)) == only
    assert endpoints(compiler) == ["10.244.0.1:8080"]
    assert apply(compiler, pod("web-1", "10.244.0.2")) == only
    came = apply(compiler, pod("web-2", "10.244.0.4"), EventType.ADDED)
    assert {one for one in came if "~picked" in one} == only
    assert len(endpoints(compiler)) == 3
    came = apply(compiler, pod("web-2", "10.244.0.4"), EventType.DELETED)
    assert {one for one in came if "~picked" in one} == only


def test_a_pod_that_ends_is_not_sent_to_while_it_is_still_ready() -> None:
    compiler = compiled(picked(), route())
    ending = pod("web-1", "10.244.0.2")
    assert isinstance(ending, Pod)
    meta = msgspec.structs.replace(ending.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    apply(compiler, msgspec.structs.replace(ending, metadata=meta))
    assert endpoints(compiler) == ["10.244.0.1:8080"]


def test_a_pod_with_other_labels_is_left() -> None:
    compiler = compiled(picked(), route())
    came = apply(compiler, pod("web-1", "10.244.0.2", app="web", track="canary"))
    assert f"ClusterLoadAssignment {AT_GATEWAYS}" in came
    assert not any(one.startswith(("Cluster ", "ScopedRoute")) for one in came)
    assert endpoints(compiler) == ["10.244.0.1:8080"]


def test_another_port_touches_endpoints_and_policy_only() -> None:
    compiler = compiled(picked(), route())
    came = apply(compiler, picked(9090))
    assert f"ClusterLoadAssignment {AT_GATEWAYS}" in came
    assert not any(one.startswith(("Cluster ", "ScopedRoute")) for one in came)
    assert endpoints(compiler) == ["10.244.0.1:9090", "10.244.0.2:9090"]


def test_other_pods_touch_nothing_of_an_xbackend() -> None:
    compiler = compiled(picked(), route())
    came = apply(compiler, pod("more", "10.244.0.5", app="more"), EventType.ADDED)
    assert not any("~picked" in one for one in came)


def test_without_a_route_there_is_nothing() -> None:
    compiler = compiled(picked())
    assert not [one for one in compiler.resources("n1") if "~picked" in one.name]
    assert status_of(compiler.db, picked(), lambda _: None) is None


def test_nobody_who_is_ready_is_told_of_and_accepted() -> None:
    compiler = compiled(nobody := objects.xbackend("picked", {"app": "nobody"}), route())
    said = ("True", "Accepted", "no pod with these labels is ready")
    assert condition(compiler, nobody, "Accepted") == said
    assert endpoints(compiler) == []
    apply(compiler, pod("one", "10.244.0.7", app="nobody"), EventType.ADDED)
    assert condition(compiler, nobody, "Accepted") == ("True", "Accepted", "")


# --- routes -------------------------------------------------------------------------------------


def test_weights_hold_beside_services() -> None:
    compiler = compiled(picked(), route(("picked", 3), ("api", 1)))
    (layer,) = [one for one in compiler.resources("n1") if one.type_url == types.RUNTIME]
    assert b"route.shop/r/0/0.gw|shop/~picked" in layer.body
    came = apply(compiler, route(("picked", 1), ("api", 3)))
    assert came == {f"Runtime {layer.name}"}


def test_routes_on_services_lead_there_and_are_judged_like_any() -> None:
    compiler = compiled(picked(), route(parent=objects.on_service("api")))
    assert endpoints(compiler, IN_MESH) == ["10.244.0.1:8080", "10.244.0.2:8080"]
    assert named(compiler, types.CLUSTER, AT_GATEWAYS) is None
    names = {one.name for one in compiler.resources("n1") if one.type_url == types.EXTENSION}
    assert {"eg|shop/~picked", "in|shop/~picked"} <= names
    assert condition(compiler, picked(), "Accepted")[0] == "True"
    status = status_of(compiler.db, picked(), lambda _: None)
    assert status is not None
    assert status["ancestors"][0]["ancestorRef"] == {
        "group": "", "kind": "Service", "namespace": "shop", "name": "api",
    }  # fmt: skip


def test_copies_go_there() -> None:
    ref = objects.backend_ref("picked")
    del ref["weight"]
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": ref}}
    rule = {"backendRefs": [objects.backend_ref("api")], "filters": [mirror]}
    copying = objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "front"}], "rules": [rule]},
        }
    )
    compiler = compiled(picked(), copying)
    assert condition(compiler, copying, "ResolvedRefs")[0] == "True"
    assert endpoints(compiler) == ["10.244.0.1:8080", "10.244.0.2:8080"]


@pytest.mark.parametrize(
    ("kind", "protocol"), [("TCPRoute", None), ("TCPRoute", "TCP"), ("UDPRoute", None)]
)
def test_connections_and_datagrams_go_there(kind: str, protocol: str | None) -> None:
    wanted: dict[str, Any] = {} if protocol is None else {"protocol": protocol}
    listener = {"name": "l", "protocol": kind.removesuffix("Route"), "port": 5000}
    passing = streams.route(kind, "s", [("picked", 1)])
    compiler = compiled(picked(**wanted), passing, objects.gateway("front", [listener]))
    assert condition(compiler, passing, "ResolvedRefs")[:2] == ("True", "ResolvedRefs")
    assert condition(compiler, picked(**wanted), "Accepted")[0] == "True"
    (found,) = [one for one in compiler.resources("n1") if one.type_url == types.ENDPOINTS]
    assert endpoints(compiler, found.name) == ["10.244.0.1:8080", "10.244.0.2:8080"]
    came = apply(compiler, pod("web-1", "10.244.0.2", ready=False))
    assert came == {f"ClusterLoadAssignment {found.name}"}


@pytest.mark.parametrize("protocol", [None, "TCP"])
def test_connections_of_pods_that_policy_reads_are_judged_there(protocol: str | None) -> None:
    wanted: dict[str, Any] = {} if protocol is None else {"protocol": protocol}
    item = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"path": "/a"}]}}
    peers = {"toEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": [item]}
    reading = objects.policy("e", {"endpointSelector": {}, "egress": [peers]})
    passing = streams.route(
        "TCPRoute", "t", [("picked", 1)], parentRefs=[objects.on_service("api")]
    )
    compiler = compiled(picked(**wanted), passing)
    assert named(compiler, types.CLUSTER, IN_MESH) is None
    apply(compiler, reading, EventType.ADDED)
    assert spoken(cluster(compiler, IN_MESH)) == "same"
    assert endpoints(compiler, IN_MESH) == ["10.244.0.1:8080", "10.244.0.2:8080"]
    apply(compiler, reading, EventType.DELETED)
    assert named(compiler, types.CLUSTER, IN_MESH) is None


@pytest.mark.parametrize(
    ("kind", "spec", "why"),
    [
        ("TCPRoute", {"protocol": "HTTP"}, "has a protocol of requests"),
        ("UDPRoute", {"protocol": "TCP"}, "has a protocol or TLS"),
        ("HTTPRoute", {"protocol": "TCP"}, "has protocol TCP"),
        ("GRPCRoute", {"protocol": "HTTP11"}, "does not speak HTTP/2"),
    ],
)
def test_a_protocol_that_a_route_does_not_speak_is_refused(
    kind: str, spec: dict[str, Any], why: str
) -> None:
    listeners = [
        {"name": name.lower(), "protocol": name, "port": port}
        for name, port in (("HTTP", 80), ("TCP", 5000), ("UDP", 5000))
    ]
    wrong = streams.route(kind, "s", [("picked", 1)])
    compiler = compiled(picked(**spec), wrong, objects.gateway("front", listeners))
    status, reason, text = condition(compiler, wrong, "ResolvedRefs")
    assert (status, reason) == ("False", "UnsupportedProtocol")
    assert text.startswith("spec.rules[0].backendRefs[0]: XBackend shop/picked ")
    assert why in text


def test_a_port_beside_the_reference_is_refused() -> None:
    ref = objects.backend_ref("picked") | {"port": 8080}
    wrong = objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": [{"name": "front"}], "rules": [{"backendRefs": [ref]}]},
        }
    )
    compiler = compiled(picked(), wrong)
    status, reason, text = condition(compiler, wrong, "ResolvedRefs")
    assert (status, reason) == ("False", "BackendNotFound")
    assert text.startswith("spec.rules[0].backendRefs[0].port: must not be given")


# --- what is spoken -----------------------------------------------------------------------------


TLS = {
    "mode": "ServerOnly",
    "validation": {
        "hostname": "web.internal",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
    },
}
CA = objects.made(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"ca.crt": AUTHORITY.pem},
    }
)
MUTUAL = {**TLS, "mode": "ClientAndServer", "clientCertificateRef": {"name": "client"}}
CLIENT = objects.made(tls_secret_raw("client", "shop", [issue("client")]))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, "HTTP/1.1"),
        ({"protocol": "HTTP"}, "HTTP/1.1"),
        ({"protocol": "HTTP11"}, "HTTP/1.1"),
        ({"protocol": "MCP"}, "HTTP/1.1"),
        ({"protocol": "WSS", "tls": TLS}, "HTTP/1.1"),
        ({"protocol": "H2C"}, "HTTP/2"),
        ({"protocol": "GRPC"}, "HTTP/2"),
        ({"protocol": "HTTP2", "tls": TLS}, "HTTP/2"),
    ],
)
def test_every_protocol_is_spoken_as_it_is_written(spec: dict[str, Any], wanted: str) -> None:
    made = cluster(compiled(picked(**spec), route(), CA))
    assert spoken(made) == wanted
    assert made.HasField("transport_socket") is ("tls" in spec)


def test_without_a_protocol_calls_of_grpc_are_http2() -> None:
    calls = streams.route("GRPCRoute", "c", [("picked", 1)])
    assert spoken(cluster(compiled(picked(), calls))) == "HTTP/2"
    other = objects.gateway("other")
    beside = objects.http_route("r", parent={"name": "other"}, backends=[("picked", 1)])
    assert spoken(cluster(compiled(picked(), calls, other, beside))) == "same"
    assert spoken(cluster(compiled(picked(tls=TLS), CA, calls, other, beside))) == "HTTP/2"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"protocol": "H2C", "tls": TLS}, "spec.tls.mode"),
        ({"protocol": "HTTP2"}, "spec.tls.mode"),
        ({"protocol": "WSS"}, "spec.tls.mode"),
        ({"tls": {"mode": "ServerOnly"}}, "spec.tls.validation"),
        ({"tls": TLS | {"mode": "None"}}, "spec.tls.validation"),
        ({"sessionPersistence": {"cookie": {"name": "a", "path": "no"}}},
         "spec.sessionPersistence.cookie.path"),
        ({"tls": {"mode": "ServerOnly", "clientCertificateRef": {"name": "c"}}},
         "spec.tls.clientCertificateRef"),
        ({"noSuchField": 1}, "spec.noSuchField"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_closed_and_says_where(spec: dict[str, Any], path: str) -> None:
    compiler = compiled(wrong := picked(**spec), way := route(), CA)
    status, reason, text = condition(compiler, wrong, "Accepted")
    assert (status, reason) == ("False", "Invalid")
    assert text.startswith(f"{path}: ")
    assert condition(compiler, way, "ResolvedRefs")[:2] == ("False", "UnsupportedProtocol")
    assert named(compiler, types.CLUSTER, AT_GATEWAYS) is None


# --- TLS ----------------------------------------------------------------------------------------


def shown(made: cluster_pb2.Cluster) -> list[str]:
    context = tls_pb2.UpstreamTlsContext.FromString(made.transport_socket.typed_config.value)
    assert context.sni == "web.internal"
    return [one.name for one in context.common_tls_context.tls_certificate_sds_secret_configs]


def test_a_certificate_is_shown_where_the_xbackend_asks_for_it() -> None:
    compiler = compiled(picked(tls=MUTUAL), route(), CA, CLIENT)
    assert shown(cluster(compiler)) == ["tls|shop/client"]
    assert named(compiler, types.SECRET, "tls|shop/client") is not None
    apply(compiler, picked(tls=TLS))
    assert shown(cluster(compiler)) == []
    assert named(compiler, types.SECRET, "tls|shop/client") is None


def test_without_a_route_no_node_has_the_key() -> None:
    compiler = compiled(picked(tls=MUTUAL), CA, CLIENT)
    assert named(compiler, types.SECRET, "tls|shop/client") is None


def test_without_its_certificate_an_xbackend_is_closed() -> None:
    compiler = compiled(mutual := picked(tls=MUTUAL), route(), CA)
    for kind in ("Accepted", "ResolvedRefs"):
        status, reason, text = condition(compiler, mutual, kind)
        assert (status, reason) == ("False", "InvalidClientCertificateRef")
        assert text.startswith("spec.tls.clientCertificateRef: ")
    assert named(compiler, types.CLUSTER, AT_GATEWAYS) is None
    apply(compiler, CLIENT, EventType.ADDED)
    assert shown(cluster(compiler)) == ["tls|shop/client"]
    apply(compiler, CLIENT, EventType.DELETED)
    assert named(compiler, types.CLUSTER, AT_GATEWAYS) is None


def test_a_certificate_of_another_namespace_needs_a_grant_for_the_xbackend() -> None:
    theirs = {**MUTUAL, "clientCertificateRef": {"name": "client", "namespace": "vault"}}
    secret = objects.made(tls_secret_raw("client", "vault", [issue("client")]))
    compiler = compiled(mutual := picked(tls=theirs), route(), CA, secret)
    assert condition(compiler, mutual, "Accepted")[:2] == ("False", "RefNotPermitted")
    grant = objects.made(
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "g", "namespace": "vault"},
            "spec": {
                "from": [{"group": objects.X_GROUP, "kind": "XBackend", "namespace": "shop"}],
                "to": [{"group": "", "kind": "Secret"}],
            },
        }
    )
    apply(compiler, grant, EventType.ADDED)
    assert shown(cluster(compiler)) == ["tls|vault/client"]
    apply(compiler, grant, EventType.DELETED)
    assert named(compiler, types.SECRET, "tls|vault/client") is None
    assert named(compiler, types.CLUSTER, AT_GATEWAYS) is None


def test_pods_speak_tls_to_it_and_show_no_certificate() -> None:
    on_service = route(parent=objects.on_service("api"))
    compiler = compiled(picked(tls=TLS), on_service, CA, CLIENT)
    assert shown(cluster(compiler, IN_MESH)) == []
    apply(compiler, mutual := picked(tls=MUTUAL))
    assert named(compiler, types.CLUSTER, IN_MESH) is None
    assert named(compiler, types.SECRET, "tls|shop/client") is None
    status, reason, text = condition(compiler, mutual, "Accepted")
    assert (status, reason) == ("False", "Invalid")
    assert text.startswith("spec.tls.mode: ")
    assert condition(compiler, on_service, "ResolvedRefs")[1] == "UnsupportedProtocol"


def test_one_good_authority_of_two_is_enough_and_the_other_is_told_of() -> None:
    refs = [{"group": "", "kind": "ConfigMap", "name": name} for name in ("missing", "ca")]
    two = {"mode": "ServerOnly", "validation": {"hostname": "h", "caCertificateRefs": refs}}
    compiler = compiled(some := picked(tls=two), route(), CA)
    assert condition(compiler, some, "Accepted")[:2] == ("True", "Accepted")
    status, reason, text = condition(compiler, some, "ResolvedRefs")
    assert (status, reason) == ("False", "InvalidCACertificateRef")
    assert text.startswith("spec.tls.validation: caCertificateRefs[0]: ")


# --- sessions, and how it is written ------------------------------------------------------------


def test_its_sessions_are_kept_whoever_leads_there() -> None:
    kept = picked(sessionPersistence={"cookie": {"name": "s"}})
    compiler = compiled(kept, route(("picked", 1), ("api", 1)))
    (scope,) = [one for one in compiler.resources("n1") if one.type_url == types.SCOPE]
    assert b"stateful_session" in scope.body
    apply(compiler, picked())
    (scope,) = [one for one in compiler.resources("n1") if one.type_url == types.SCOPE]
    assert b"stateful_session" not in scope.body


def test_both_forms_of_the_port_are_read() -> None:
    older = objects.made(
        {
            "apiVersion": f"{objects.X_GROUP}/v1alpha1",
            "kind": "XBackend",
            "metadata": {"name": "picked", "namespace": "shop"},
            "spec": {
                "type": "EndpointSelector",
                "endpointSelector": {"matchLabels": WEB},
                "port": {"name": "web", "port": 8080},
            },
        }
    )
    assert endpoints(compiled(older, route())) == endpoints(compiled(picked(), route()))
