"""Statuses that were told wait for who writes statuses, once."""

from __future__ import annotations

import msgspec

from penstock.core.events import EventType
from penstock.gatewayapi.resources import GatewayClass, HTTPRoute
from penstock.meta.names import ObjectRef
from penstock.sources.kubernetes.observed import Observed
from penstock.sources.kubernetes.table import Table

V1 = "gateway.networking.k8s.io/v1"
ROUTE = ObjectRef("HTTPRoute", "shop", "web")


def raw(version: int, **more: object) -> msgspec.Raw:
    metadata = {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3}
    metadata["resourceVersion"] = str(version)
    return msgspec.Raw(msgspec.json.encode({"metadata": metadata, "spec": {}, **more}))


def test_the_newest_of_what_was_told_is_given_away_once() -> None:
    observed = Observed({"HTTPRoute"})
    table = Table(HTTPRoute, observed)
    table.replace(dict([table.look(raw(7), V1)]))
    status = {"parents": [{"controllerName": "example.com/other"}]}
    list(table.change(EventType.MODIFIED, raw(8, status=status), V1))
    told = observed.take(ROUTE)
    assert told is not None
    assert told.as_read(ROUTE, V1) == {
        "apiVersion": V1,
        "kind": "HTTPRoute",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "u1",
            "resourceVersion": "8",
            "generation": 3,
        },
        "status": status,
    }
    assert observed.take(ROUTE) is None


def test_an_object_without_status_was_told_too() -> None:
    observed = Observed({"HTTPRoute"})
    table = Table(HTTPRoute, observed)
    table.look(raw(7), V1)
    told = observed.take(ROUTE)
    assert told is not None
    assert "status" not in told.as_read(ROUTE, V1)


def test_an_object_without_namespace_names_none() -> None:
    observed = Observed({"GatewayClass"})
    text = (
        b'{"metadata":{"name":"a","uid":"u","resourceVersion":"1"},"spec":{"controllerName":"b/c"}}'
    )
    Table(GatewayClass, observed).look(msgspec.Raw(text), V1)
    ref = ObjectRef("GatewayClass", "", "a")
    told = observed.take(ref)
    assert told is not None
    assert "namespace" not in told.as_read(ref, V1)["metadata"]


def test_nothing_is_kept_while_somebody_else_writes() -> None:
    observed = Observed({"HTTPRoute"})
    table = Table(HTTPRoute, observed)
    table.look(raw(7), V1)
    observed.end()
    assert len(observed) == 0
    table.look(raw(8), V1)
    assert observed.take(ROUTE) is None
    observed.begin()
    table.look(raw(9), V1)
    assert observed.take(ROUTE) is not None


def test_no_more_is_kept_than_fits_and_what_was_taken_makes_room() -> None:
    observed = Observed({"HTTPRoute"}, most=100)
    table = Table(HTTPRoute, observed)
    table.look(raw(7, status={"parents": [], "a": "x" * 60}), V1)
    table.look(raw(8, status={"parents": [], "a": "x" * 200}), V1)
    assert observed.take(ROUTE) is None  # and not an older version
    table.look(raw(9, status={"parents": [], "a": "x" * 60}), V1)
    assert observed.take(ROUTE) is not None


def test_what_went_while_everything_was_read_is_forgotten() -> None:
    observed = Observed({"HTTPRoute", "GatewayClass"}, most=100)
    table = Table(HTTPRoute, observed)
    text = (
        b'{"metadata":{"name":"a","uid":"u","resourceVersion":"1"},"spec":{"controllerName":"b/c"}}'
    )
    Table(GatewayClass, observed).look(msgspec.Raw(text), V1)
    table.look(raw(7, status={"parents": [], "a": "x" * 60}), V1)
    table.replace({})
    assert observed.take(ROUTE) is None
    assert observed.take(ObjectRef("GatewayClass", "", "a")) is not None
    table.replace(dict([table.look(raw(8, status={"parents": [], "a": "x" * 60}), V1)]))
    assert observed.take(ROUTE) is not None  # its room was given back
