"""Conditions of classes, Gateways, listeners and routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from penstock.gatewayapi.attach import SERVED, ListenerTable, attach_to_gateway, head_of
from penstock.gatewayapi.httproute import translate
from penstock.gatewayapi.listener_tls import ListenerCertificates, UnusableRef
from penstock.gatewayapi.listeners import ListenerStatus, Surroundings, conflicts, gateway_fault
from penstock.gatewayapi.merged import merged, tls_of
from penstock.gatewayapi.requested_addresses import AssignedAddress
from penstock.gatewayapi.resources import Gateway, RouteGroupKind
from penstock.gatewayapi.status import (
    GatewayStatus,
    RouteParentStatus,
    counted_listeners,
    gateway_class_conditions,
    gateway_status,
    is_ours,
    parent_ref,
    route_parent_status,
)
from penstock.meta.names import NamespacedName
from support.gateway_objects import (
    Json,
    condition,
    gateway,
    gateway_class,
    http_route,
    listener,
    references,
    service,
)

ADDRESS = "192.0.2.1"
TLS: Json = {"certificateRefs": [{"name": "cert"}]}


def status_of(
    given: Gateway, certificates: Mapping[str, ListenerCertificates] = {}, **more: Any
) -> GatewayStatus:
    tls = tls_of(merged(given, ()), certificates)
    arguments: dict[str, Any] = {"addresses": [ADDRESS], **more}
    names = ("attached_routes", "pending", "taken", "outer", "asked")
    around = {name: arguments.pop(name) for name in names if name in arguments}
    return gateway_status(given, Surroundings(tls=tls, **around), **arguments)


def served_names(given: Gateway) -> list[str]:
    if gateway_fault(given.spec) is not None:
        return []
    return [one.place for one in merged(given, ()) if one.fault is None]


def state(holder: GatewayStatus | ListenerStatus, name: str) -> tuple[bool | None, str]:
    found = condition(holder.conditions, name)
    assert found.observed_generation == 3
    return found.status, found.reason


def states(holder: ListenerStatus) -> dict[str, tuple[bool | None, str]]:
    return {one.type: state(holder, one.type) for one in holder.conditions}


# --- GatewayClass


def test_only_classes_with_our_controller_name_are_ours() -> None:
    assert is_ours(gateway_class())
    assert not is_ours(gateway_class("other.test/controller"))


def test_class_without_parameters_is_accepted() -> None:
    (accepted,) = gateway_class_conditions(gateway_class())
    assert (accepted.status, accepted.reason) == (True, "Accepted")
    assert accepted.observed_generation == 2


def test_class_with_parameters_is_not_accepted() -> None:
    reference = {"group": "a.test", "kind": "Parameters", "name": "p"}
    (accepted,) = gateway_class_conditions(gateway_class(parametersRef=reference))
    assert (accepted.status, accepted.reason) == (False, "InvalidParameters")


# --- Gateway and listeners


def test_http_listener_is_accepted_and_programmed() -> None:
    status = status_of(gateway(listener()), attached_routes={"http": 4})
    assert state(status, "Accepted") == (True, "Accepted")
    assert state(status, "Programmed") == (True, "Programmed")
    assert status.addresses == (AssignedAddress(ADDRESS),)
    (one,) = status.listeners
    assert (one.name, one.attached_routes) == ("http", 4)
    assert one.supported_kinds == SERVED["HTTP"]
    assert states(one) == {
        "Accepted": (True, "Accepted"),
        "Conflicted": (False, "NoConflicts"),
        "ResolvedRefs": (True, "ResolvedRefs"),
        "Programmed": (True, "Programmed"),
    }


@pytest.mark.parametrize(
    "given",
    [
        listener(protocol="SCTP"),
        listener(protocol="INVALID"),
        listener(protocol="example.com/QUIC"),
    ],
)
def test_listener_with_another_protocol_says_so(given: Json) -> None:
    status = status_of(gateway(given))
    (one,) = status.listeners
    assert state(one, "Accepted") == (False, "UnsupportedProtocol")
    assert state(one, "Programmed") == (False, "UnsupportedProtocol")
    assert one.supported_kinds == ()
    assert state(status, "Accepted") == (False, "ListenersNotValid")
    assert state(status, "Programmed") == (False, "Invalid")


def test_one_good_listener_makes_the_gateway_accepted() -> None:
    given = gateway(listener(), listener("strange", 443, "SCTP"))
    status = status_of(given)
    assert state(status, "Accepted") == (True, "ListenersNotValid")
    assert "strange" in condition(status.conditions, "Accepted").message
    assert state(status, "Programmed") == (True, "Programmed")
    assert served_names(given) == ["http"]


# HTTPS

SECRET = NamespacedName("app", "cert")
SERVES = ListenerCertificates(usable=(SECRET,))
MISSING = UnusableRef(index=0, reason="InvalidCertificateRef", message="does not exist")


def of_https(certificates: ListenerCertificates, **more: Any) -> GatewayStatus:
    given = gateway(listener("https", 443, "HTTPS", tls=TLS, **more))
    return status_of(given, certificates={"https": certificates})


def test_https_listener_with_a_certificate_is_programmed() -> None:
    status = of_https(SERVES)
    (one,) = status.listeners
    assert one.supported_kinds == SERVED["HTTPS"]
    assert states(one) == {
        "Accepted": (True, "Accepted"),
        "Conflicted": (False, "NoConflicts"),
        "ResolvedRefs": (True, "ResolvedRefs"),
        "Programmed": (True, "Programmed"),
    }
    assert state(status, "Programmed") == (True, "Programmed")


def test_https_listener_without_a_certificate_is_accepted_and_not_programmed() -> None:
    status = of_https(ListenerCertificates(unusable=(MISSING,)))
    (one,) = status.listeners
    assert state(one, "Accepted") == (True, "Accepted")
    assert state(one, "ResolvedRefs") == (False, "InvalidCertificateRef")
    assert (
        "tls.certificateRefs[0]: does not exist"
        in condition(one.conditions, "ResolvedRefs").message
    )
    assert state(one, "Programmed") == (False, "Invalid")
    assert one.supported_kinds == SERVED["HTTPS"]
    assert state(status, "Accepted") == (True, "Accepted")
    assert state(status, "Programmed") == (False, "Invalid")


def test_https_listener_with_one_of_two_certificates_serves_and_says_so() -> None:
    (one,) = of_https(ListenerCertificates(usable=(SECRET,), unusable=(MISSING,))).listeners
    assert state(one, "ResolvedRefs") == (False, "InvalidCertificateRef")
    assert state(one, "Programmed") == (True, "Programmed")


def test_a_bad_certificate_is_its_own_listeners_business() -> None:
    given = gateway(
        listener("a", 443, "HTTPS", hostname="a.test", tls=TLS),
        listener("b", 443, "HTTPS", hostname="b.test", tls=TLS),
    )
    broken = ListenerCertificates(unusable=(MISSING,))
    status = status_of(given, certificates={"a": SERVES, "b": broken})
    programmed = [state(one, "Programmed")[0] for one in status.listeners]
    assert programmed == [True, False]
    assert state(status, "Programmed") == (True, "Programmed")


def test_a_certificate_out_of_date_is_served_and_told() -> None:
    (one,) = of_https(ListenerCertificates(usable=(SECRET,), refused=("expired",))).listeners
    assert state(one, "CertificateNotValid") == (True, "OutOfDate")
    assert state(one, "Programmed") == (True, "Programmed")


def test_server_names_that_overlap_are_told_at_both_listeners() -> None:
    given = gateway(
        listener("any", 443, "HTTPS", tls=TLS),
        listener("one", 443, "HTTPS", hostname="a.test", tls=TLS),
    )
    status = status_of(given, certificates={"any": SERVES, "one": SERVES})
    for one in status.listeners:
        assert state(one, "OverlappingTLSConfig") == (True, "OverlappingHostnames")


VALIDATION: Json = {"validation": {"caCertificateRefs": [
    {"group": "", "kind": "ConfigMap", "name": "ca"}]}}  # fmt: skip


@pytest.mark.parametrize(
    ("frontend", "served"),
    [
        ({"default": VALIDATION}, ["http"]),
        ({"default": VALIDATION, "perPort": [{"port": 443, "tls": {}}]}, ["http", "https"]),
        ({"default": {}, "perPort": [{"port": 443, "tls": VALIDATION}]}, ["http"]),
        ({"default": {}, "perPort": [{"port": 8443, "tls": VALIDATION}]}, ["http", "https"]),
    ],
)
def test_a_listener_that_should_check_its_clients_is_not_served_without(
    frontend: Json, served: list[str]
) -> None:
    given = gateway(
        listener(), listener("https", 443, "HTTPS", tls=TLS), tls={"frontend": frontend}
    )
    assert served_names(given) == served
    https = status_of(given, certificates={"https": SERVES}).listeners[1]
    accepted = (True, "Accepted") if "https" in served else (False, "NoValidCACertificate")
    assert state(https, "Accepted") == accepted


@pytest.mark.parametrize(
    ("kinds", "supported"),
    [
        ([{"kind": "InvalidRoute"}], ()),
        ([{"kind": "TLSRoute"}], ()),
        (
            [{"kind": "InvalidRoute"}, {"kind": "HTTPRoute"}],
            (RouteGroupKind(kind="HTTPRoute"),),
        ),
    ],
)
def test_unknown_kinds_of_routes_are_named_and_known_ones_listed(
    kinds: list[Json], supported: tuple[RouteGroupKind, ...]
) -> None:
    (one,) = status_of(gateway(listener(allowedRoutes={"kinds": kinds}))).listeners
    assert state(one, "ResolvedRefs") == (False, "InvalidRouteKinds")
    assert state(one, "Accepted") == (True, "Accepted")
    assert one.supported_kinds == supported


def test_filters_of_a_listener_keep_it_from_serving() -> None:
    extension = {
        "type": "ExtensionRef",
        "extensionRef": {"group": "a.test", "kind": "K", "name": "n"},
    }
    given = gateway(listener(filters={"requests": [extension]}))
    (one,) = status_of(given).listeners
    assert state(one, "Accepted") == (False, "UnsupportedValue")
    assert state(one, "Programmed") == (False, "Invalid")
    assert served_names(given) == []


def found_conflicts(*given: Json) -> dict[str, str]:
    return conflicts(gateway(*given).spec.listeners)


HOSTNAME, PROTOCOL = "HostnameConflict", "ProtocolConflict"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([listener("a"), listener("b", hostname="a.test"), listener("c", 81)], {}),
        ([listener("a"), listener("b")], {"a": HOSTNAME, "b": HOSTNAME}),
        (
            [
                listener("a", hostname="x.test"),
                listener("b", hostname="x.test"),
                listener("c", hostname="y.test"),
            ],
            {"a": HOSTNAME, "b": HOSTNAME},
        ),
        ([listener("a"), listener("b", protocol="TCP")], {"a": PROTOCOL, "b": PROTOCOL}),
        (
            [listener("a"), listener("b", protocol="HTTPS", hostname="x.test", tls=TLS)],
            {"a": PROTOCOL, "b": PROTOCOL},
        ),
        ([listener("a"), listener("b", protocol="UDP")], {}),
        (
            [listener("a", protocol="TCP"), listener("b", protocol="TCP")],
            {"a": PROTOCOL, "b": PROTOCOL},
        ),
        (
            [
                listener("a", protocol="HTTPS", hostname="x.test", tls=TLS),
                listener("b", protocol="TLS", hostname="y.test", tls={"mode": "Passthrough"}),
            ],
            {},
        ),
        (
            [
                listener("a", protocol="HTTPS", hostname="x.test", tls=TLS),
                listener("b", protocol="TLS", hostname="x.test", tls={"mode": "Passthrough"}),
            ],
            {"a": PROTOCOL, "b": PROTOCOL},
        ),
    ],
)
def test_listeners_that_cannot_be_told_apart_conflict(
    given: list[Json], found: dict[str, str]
) -> None:
    assert found_conflicts(*given) == found


def test_conflicting_listeners_have_no_winner() -> None:
    given = gateway(listener("a"), listener("b"), listener("c", 81))
    status = status_of(given)
    first, second, third = status.listeners
    for one in (first, second):
        assert state(one, "Conflicted") == (True, HOSTNAME)
        assert state(one, "Accepted") == (False, HOSTNAME)
        assert state(one, "Programmed") == (False, "Invalid")
    assert state(third, "Accepted") == (True, "Accepted")
    assert state(status, "Accepted") == (True, "ListenersNotValid")
    assert served_names(given) == ["c"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"addresses": [{"type": "Hostname", "value": "a.test"}]}, "UnsupportedAddress"),
        ({"addresses": [{"type": "a.test/x", "value": "y"}]}, "UnsupportedAddress"),
        ({"addresses": [{"value": "nonsense"}]}, "UnsupportedAddress"),
        (
            {"infrastructure": {"parametersRef": {"group": "", "kind": "K", "name": "n"}}},
            "InvalidParameters",
        ),
    ],
)
def test_gateway_that_asks_for_what_is_not_there_serves_nothing(spec: Json, reason: str) -> None:
    given = gateway(listener(), **spec)
    status = status_of(given)
    assert state(status, "Accepted") == (False, reason)
    assert state(status, "Programmed") == (False, "Invalid")
    assert state(status.listeners[0], "Programmed") == (False, "Pending")
    assert served_names(given) == []


def test_address_that_cannot_be_had_is_not_programmed() -> None:
    given = gateway(listener(), addresses=[{"value": "198.51.100.1"}])
    status = status_of(given)
    assert state(status, "Accepted") == (True, "Accepted")
    assert state(status, "Programmed") == (False, "AddressNotUsable")


@pytest.mark.parametrize("wanted", [[{"value": ADDRESS}], [{"type": "IPAddress"}]])
def test_address_that_is_there_or_left_open_is_programmed(wanted: list[Json]) -> None:
    status = status_of(gateway(listener(), addresses=wanted))
    assert state(status, "Programmed") == (True, "Programmed")


def test_gateway_without_address_is_not_programmed() -> None:
    status = status_of(gateway(listener()), addresses=[])
    assert state(status, "Programmed") == (False, "AddressNotAssigned")


def test_listener_that_the_data_plane_does_not_serve_yet_is_pending() -> None:
    given = gateway(listener("a"), listener("b", 81))
    status = status_of(given, pending={"a": "node-1 has not acknowledged it"})
    first, second = status.listeners
    assert state(first, "Programmed") == (False, "Pending")
    assert state(second, "Programmed") == (True, "Programmed")
    assert state(status, "Programmed") == (True, "Programmed")
    everything = {"a": "waiting", "b": "waiting"}
    assert state(status_of(given, pending=everything), "Programmed") == (False, "Pending")


# --- HTTPRoute


def route_status(*rules: Json, hostnames: tuple[str, ...] = ()) -> RouteParentStatus:
    route = http_route(rules=rules, hostnames=hostnames)
    head = head_of(route)
    gw = gateway(listener(hostname="a.test"))
    attachment = attach_to_gateway(head, head.parents[0], ListenerTable.of(gw.spec.listeners), {})
    verdict = translate(route, references(service("svc"))).verdict
    wanted = attachment.listeners if verdict.accepted.status else ()
    assert counted_listeners(attachment, verdict) == wanted
    return route_parent_status(head.parents[0], attachment.accepted, verdict)


def summary(status: RouteParentStatus) -> dict[str, tuple[bool | None, str]]:
    return {one.type: (one.status, one.reason) for one in status.conditions}


GOOD: Json = {"backendRefs": [{"name": "svc", "port": 80}]}
BAD: Json = {**GOOD, "sessionPersistence": {"sessionName": "a b"}}


def test_good_route_is_accepted_with_resolved_refs() -> None:
    assert summary(route_status(GOOD)) == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (True, "ResolvedRefs"),
    }


def test_attachment_decides_before_translation() -> None:
    found = summary(route_status(BAD, hostnames=("b.test",)))
    assert found["Accepted"] == (False, "NoMatchingListenerHostname")


def test_route_without_a_valid_rule_is_not_accepted() -> None:
    assert summary(route_status(BAD)) == {
        "Accepted": (False, "UnsupportedValue"),
        "ResolvedRefs": (True, "ResolvedRefs"),
    }


def test_route_with_some_valid_rules_is_partially_invalid() -> None:
    assert summary(route_status(BAD, GOOD)) == {
        "Accepted": (True, "Accepted"),
        "ResolvedRefs": (True, "ResolvedRefs"),
        "PartiallyInvalid": (True, "UnsupportedValue"),
    }


def test_unresolved_backend_leaves_the_route_accepted() -> None:
    found = summary(route_status({"backendRefs": [{"name": "gone", "port": 80}]}))
    assert found == {"Accepted": (True, "Accepted"), "ResolvedRefs": (False, "BackendNotFound")}


@pytest.mark.parametrize(
    ("written", "echoed"),
    [
        (
            {"name": "gw"},
            {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"},
        ),
        (
            {"name": "s", "group": "", "kind": "Service", "namespace": "app", "port": 80},
            {"name": "s", "group": "", "kind": "Service", "namespace": "app", "port": 80},
        ),
        (
            {"name": "gw", "sectionName": "http"},
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": "gw",
                "sectionName": "http",
            },
        ),
    ],
)
def test_parent_ref_is_echoed_with_defaults_and_nothing_else(written: Json, echoed: Json) -> None:
    (reference,) = http_route(parents=[written]).spec.parent_refs
    assert parent_ref(reference) == echoed
