"""References to backends lead to a Service port or say why not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.kinds import Service
from penstock.gatewayapi.backends import References, resolve
from penstock.gatewayapi.grants import Referent, Referrer, permits_of, permitted
from penstock.gatewayapi.rules import HTTPBackendRef
from penstock.ir.route import InvalidBackend, ServiceBackend, ServicePort
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from support.gateway_objects import grant, references, service

HERE = Origin(ObjectRef("HTTPRoute", "app", "route"), "spec.rules[0].backendRefs[0]")


def ref(name: str = "svc", port: int | None = 80, **more: Any) -> HTTPBackendRef:
    return HTTPBackendRef(name=name, port=port, **more)


def refused(given: HTTPBackendRef, known: References) -> str:
    backend = resolve(given, HERE, known)
    assert isinstance(backend, InvalidBackend)
    assert backend.message
    return backend.reason


def test_reference_leads_to_a_service_port_with_its_weight() -> None:
    backend = resolve(ref(weight=5), HERE, references(service("svc")))
    target = ServicePort(service=NamespacedName("app", "svc"), port=80)
    assert backend == ServiceBackend(target=target, weight=5, origin=HERE)


def test_invalid_reference_keeps_its_weight_and_place() -> None:
    backend = resolve(ref(weight=5), HERE, references())
    assert isinstance(backend, InvalidBackend)
    assert (backend.weight, backend.origin) == (5, HERE)


@pytest.mark.parametrize(
    ("given", "known", "reason"),
    [
        (ref("other"), service("svc"), "BackendNotFound"),
        (ref(port=81), service("svc"), "BackendNotFound"),
        (ref(port=None), service("svc"), "BackendNotFound"),
        (ref(kind="Pod"), service("svc"), "InvalidKind"),
        (ref(group="a.test", kind="Service"), service("svc"), "InvalidKind"),
        (
            ref(),
            service("svc", type="ExternalName", externalName="a.test", clusterIP=""),
            "InvalidKind",
        ),
        (
            ref(),
            service("svc", "app", {"name": "a", "port": 80, "protocol": "UDP"}),
            "UnsupportedProtocol",
        ),
        (
            ref(),
            service("svc", "app", {"name": "a", "port": 80, "appProtocol": "https"}),
            "UnsupportedProtocol",
        ),
        (
            ref(),
            service("svc", "app", {"name": "a", "port": 80, "appProtocol": "kubernetes.io/wss"}),
            "UnsupportedProtocol",
        ),
    ],
)
def test_reference_that_leads_nowhere_has_a_reason(
    given: HTTPBackendRef, known: Service, reason: str
) -> None:
    assert refused(given, references(known)) == reason


@pytest.mark.parametrize("protocol", ["", "http", "kubernetes.io/h2c", "kubernetes.io/ws"])
def test_plain_protocols_are_forwarded(protocol: str) -> None:
    port = {"name": "a", "port": 80, "appProtocol": protocol}
    backend = resolve(ref(), HERE, references(service("svc", "app", port)))
    assert isinstance(backend, ServiceBackend)


def test_headless_service_is_a_backend() -> None:
    backend = resolve(ref(), HERE, references(service("svc", clusterIP="None")))
    assert isinstance(backend, ServiceBackend)


def test_tcp_port_is_taken_where_udp_has_the_same_number() -> None:
    udp = {"name": "a", "port": 80, "protocol": "UDP"}
    tcp = {"name": "b", "port": 80}
    backend = resolve(ref(), HERE, references(service("svc", "app", udp, tcp)))
    assert isinstance(backend, ServiceBackend)


def test_other_namespace_needs_a_grant() -> None:
    far = ref(namespace="data")
    known = service("svc", "data")
    assert refused(far, references(known)) == "RefNotPermitted"
    allowed = references(known, grants=[grant("data", "app")])
    assert isinstance(resolve(far, HERE, allowed), ServiceBackend)


def test_route_on_a_service_needs_no_grant() -> None:
    backend = resolve(ref(namespace="data"), HERE, references(service("svc", "data"), mesh=True))
    assert isinstance(backend, ServiceBackend)


def test_permission_is_looked_at_before_existence() -> None:
    assert refused(ref(namespace="data"), references()) == "RefNotPermitted"
    granted = references(grants=[grant("data", "app")])
    assert refused(ref(namespace="data"), granted) == "BackendNotFound"


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (grant("data", "app"), True),
        (grant("data", "app", "svc"), True),
        (grant("data", "app", "other"), False),
        (grant("data", "other"), False),
        (grant("app", "app"), False),
        (grant("data", "app", kind="GRPCRoute"), False),
    ],
)
def test_grant_names_both_sides(given: Any, *, allowed: bool) -> None:
    assert permitted(Referrer("app"), Referent("data", "svc"), permits_of([given])) is allowed


def test_own_namespace_needs_no_grant() -> None:
    assert permitted(Referrer("app"), Referent("app", "svc"), permits_of(()))
