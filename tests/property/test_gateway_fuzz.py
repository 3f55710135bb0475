"""Whatever is written in an object, nothing raises and what comes out can be built."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core.decode import decode, examine
from penstock.core.objects import Broken, Object
from penstock.core.plan import plan_of
from penstock.envoy.route import virtual_host as build
from penstock.gatewayapi.attach import (
    ListenerTable,
    ParentKind,
    attach_to_gateway,
    attach_to_service,
    head_of,
    kind_of,
)
from penstock.gatewayapi.backend_traffic import retry_budget, session_of, target_condition
from penstock.gatewayapi.backend_traffic_policy import XBackendTrafficPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.external_backends import Sources, backend_conditions, understood
from penstock.gatewayapi.grants import permits_of
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.listener_tls import CertificateSources
from penstock.gatewayapi.listeners import Surroundings, gateway_fault
from penstock.gatewayapi.merge import ranked, virtual_host
from penstock.gatewayapi.merged import merged, tls_of
from penstock.gatewayapi.mesh import XMesh, mesh_conditions
from penstock.gatewayapi.resources import Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from penstock.gatewayapi.routes import translate
from penstock.gatewayapi.status import (
    gateway_class_conditions,
    gateway_status,
    parent_ref,
    route_parent_status,
)
from penstock.gatewayapi.stream_resources import TCPRoute, TLSRoute, UDPRoute
from penstock.gatewayapi.telemetry import left_out, tracing
from penstock.gatewayapi.telemetry import target_conditions as conditions_at
from penstock.gatewayapi.telemetry_policy import XTelemetryPolicy
from penstock.gatewayapi.trust import TrustSources
from penstock.ir.external import External, Selected
from penstock.ir.route import Forward, Redirect, Respond, ServicePort
from penstock.ir.tracing import ALL, Collector
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.messages import direct_decoder
from support.gateway_objects import API, grant, listener, references, service
from support.gateway_objects import gateway as make_gateway
from support.object_strategies import values

KNOWN = references(service("svc"), service("svc", "data"), grants=[grant("data", "app")])
STREAM_GATEWAY = make_gateway(
    listener("http", 443, protocol="TLS", hostname="*.test", tls={"mode": "Passthrough"}),
    listener("a", 80, protocol="TCP"),
    listener("gw", 80, protocol="UDP"),
)
GATEWAY = make_gateway(listener(), listener("b", 81, hostname="*.test"))
LISTENERS, STREAM_LISTENERS = (
    ListenerTable.of(one.spec.listeners) for one in (GATEWAY, STREAM_GATEWAY)
)


def objects(kind: type[Object]) -> st.SearchStrategy[dict[str, Any]]:
    spec = values(plan_of(kind).fields["spec"].shape)
    return spec.map(
        lambda value: {
            "apiVersion": API,
            "kind": kind.kind,
            "metadata": {"name": "gw", "namespace": "app"},
            "spec": value,
        }
    )


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def cluster(target: ServicePort) -> str:
    return f"{target.service}/{target.port}"


@QUICK
@given(st.one_of(objects(HTTPRoute), objects(GRPCRoute)))
def test_any_route_is_attached_translated_merged_and_built(document: dict[str, Any]) -> None:
    kind = HTTPRoute if document["kind"] == HTTPRoute.kind else GRPCRoute
    route = decode(kind, document)
    assert isinstance(route, kind | Broken)
    head = head_of(route)
    translated = translate(route, KNOWN)
    assert translated.routes or (isinstance(route, GRPCRoute) and not route.spec.rules)
    for one in translated.rules:
        assert isinstance(one.action, Forward | Redirect | Respond)
    host = virtual_host(
        "*", [ranked(translated, hostname) for hostname in head.hostnames or ("*",)]
    )
    assert {one.name for one in host.routes} == {one.name for one in translated.rules}
    build(host, cluster, runtime_weights=False).SerializeToString()
    for parent in head.parents:
        if kind_of(parent) is ParentKind.SERVICE:
            accepted = attach_to_service(head, parent, service("svc")).accepted
        else:
            accepted = attach_to_gateway(head, parent, LISTENERS, {}).accepted
        status = route_parent_status(parent, accepted, translated.verdict)
        assert {one.type for one in status.conditions} >= {"Accepted", "ResolvedRefs"}
        assert parent_ref(parent)["name"] == parent.name


STREAMS = {one.kind: one for one in (TLSRoute, TCPRoute, UDPRoute)}


@QUICK
@given(st.one_of(*map(objects, STREAMS.values())))
def test_any_route_of_streams_is_attached_and_translated(document: dict[str, Any]) -> None:
    kind = STREAMS[document["kind"]]
    route = decode(kind, document)
    assert isinstance(route, kind | Broken)
    translated = translate(route, KNOWN)
    assert translated.routes == ()
    assert bool(translated.backends) is isinstance(route, kind)
    head = head_of(route)
    for parent in head.parents:
        if kind_of(parent) is ParentKind.SERVICE:
            accepted = attach_to_service(head, parent, service("svc")).accepted
            assert not accepted.status
        else:
            accepted = attach_to_gateway(head, parent, STREAM_LISTENERS, {}).accepted
        status = route_parent_status(parent, accepted, translated.verdict)
        assert {one.type for one in status.conditions} >= {"Accepted", "ResolvedRefs"}


@QUICK
@given(st.one_of(objects(HTTPRoute), objects(Gateway), objects(ReferenceGrant)))
def test_text_is_decoded_directly_if_nothing_is_to_be_said_and_only_then(
    document: dict[str, Any],
) -> None:
    kind = {one.kind: one for one in (HTTPRoute, Gateway, ReferenceGrant)}[document["kind"]]
    directly = direct_decoder(kind).decode(json.dumps(document).encode())
    examined = examine(kind, document)
    assert directly is None or directly == examined.object
    assert examined.problems == () or directly is None


@QUICK
@given(objects(Gateway))
def test_any_gateway_has_a_status(document: dict[str, Any]) -> None:
    found = decode(Gateway, document)
    if isinstance(found, Gateway):
        placed = merged(found, ())
        status = gateway_status(
            found, Surroundings(tls=tls_of(placed, {})), addresses=["192.0.2.1"]
        )
        accepted = {
            one.name
            for one in status.listeners
            if any(each.type == "Programmed" and each.status for each in one.conditions)
        }
        refused = gateway_fault(found.spec) is not None
        assert {one.place for one in placed if one.fault is None and not refused} == accepted


@QUICK
@given(objects(XBackendTrafficPolicy))
def test_any_traffic_policy_holds_or_says_why_not(document: dict[str, Any]) -> None:
    found = decode(XBackendTrafficPolicy, document)
    if isinstance(found, XBackendTrafficPolicy):
        retry_budget(found)
        session_of(found, NamespacedName("app", "svc"))
        for target in found.spec.target_refs:
            assert target_condition(found, target, (), there=True).type == "Accepted"


@QUICK
@given(objects(XTelemetryPolicy), st.booleans())
def test_any_telemetry_policy_is_served_or_says_why_not(
    document: dict[str, Any],
    grpc: bool,  # noqa: FBT001 - drawn
) -> None:
    found = decode(XTelemetryPolicy, document)
    if isinstance(found, XTelemetryPolicy):
        to = Collector(target=ServicePort(NamespacedName("app", "x"), 1), host="a.test", grpc=grpc)
        made = tracing(found, to)
        assert 0 <= made.sampling.new <= ALL
        assert all(name == name.lower() for name, _ in made.headers)
        for target in found.targets:
            (first, *_) = conditions_at(found, target, None, to, there=True)
            assert first.type == "Accepted"
        unserved = len(found.spec.tracing.attributes) - len(made.attributes)
        assert sum("attributes" in one.path for one in left_out(found, to)) == unserved


@QUICK
@given(objects(XBackend))
def test_any_external_backend_is_a_place_or_says_why_not(document: dict[str, Any]) -> None:
    found = decode(XBackend, document)
    if isinstance(found, XBackend):
        nobody = CertificateSources(certificate=lambda _: None, permits=permits_of(()))
        said = understood(found, Sources(trust=TrustSources(), certificates=nobody))
        accepted, resolved = backend_conditions(found, said, empty=False)
        assert accepted.status is isinstance(said.place, External | Selected)
        assert resolved.status is not bool(said.lost)


@QUICK
@given(objects(GatewayClass), objects(ReferenceGrant), objects(XMesh))
def test_any_class_and_grant_and_mesh_is_understood_or_broken(
    a_class: dict[str, Any], a_grant: dict[str, Any], a_mesh: dict[str, Any]
) -> None:
    found = decode(GatewayClass, a_class)
    if isinstance(found, GatewayClass):
        assert gateway_class_conditions(found)
    assert isinstance(decode(ReferenceGrant, a_grant), ReferenceGrant | Broken)
    mesh = decode(XMesh, a_mesh)
    if isinstance(mesh, XMesh):
        assert mesh_conditions(mesh)
