"""Listeners of Gateways and of the ListenerSets that they let in."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.decode import decode
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.listener_set_status import (
    ListenerSetStatus,
    listener_set_status,
    refused_status,
)
from penstock.gatewayapi.listener_tls import ListenerCertificates
from penstock.gatewayapi.listeners import Surroundings, Tls
from penstock.gatewayapi.merged import lets_in, merged, served
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.watched_secrets import watched_secrets
from penstock.meta.conditions import Condition
from penstock.meta.names import NamespacedName
from support.gateway_objects import API, Json, gateway, gateway_class, listener

NOTHING = Surroundings(attached_routes={}, tls={}, pending={})


def added(
    *listeners: Json, name: str = "more", namespace: str = "app", created: str = "2026-01-01"
) -> ListenerSet:
    meta = {"name": name, "namespace": namespace, "generation": 5, "creationTimestamp": created}
    spec = {"parentRef": {"name": "gw", "namespace": "app"}, "listeners": list(listeners)}
    made = decode(
        ListenerSet, {"apiVersion": API, "kind": "ListenerSet", "metadata": meta, "spec": spec}
    )
    assert isinstance(made, ListenerSet), made
    return made


def status_of(one: ListenerSet, to: Gateway, around: Surroundings) -> ListenerSetStatus:
    own = [each for each in merged(to, [one]) if each.holder == one.ref]
    return listener_set_status(one, to.spec, own, around)


def conflicts(gateway: Gateway, *sets: ListenerSet) -> dict[str, str]:
    return {one.place: one.conflict for one in merged(gateway, sets) if one.conflict}


def test_listeners_have_a_place_of_their_own_whatever_they_are_called() -> None:
    own = gateway(listener("http", hostname="a.test"))
    sets = [
        added(listener("http", hostname="b.test")),
        added(listener("http", hostname="c.test"), name="others", namespace="elsewhere"),
    ]
    found = merged(own, sets)
    assert [one.place for one in found] == ["http", "app/more/http", "elsewhere/others/http"]
    assert [one.listener.name for one in found] == [one.place for one in found]
    assert served(found) == found


def test_who_comes_first_keeps_its_hostname() -> None:
    own = gateway(listener("http", hostname="a.test"))
    old = added(
        listener("one", hostname="a.test"), listener("two", hostname="b.test"), created="2026-01-02"
    )
    young = added(listener("one", hostname="b.test"), name="aaa", created="2026-01-03")
    found = conflicts(own, young, old)
    assert found == {"app/more/one": "HostnameConflict", "app/aaa/one": "HostnameConflict"}


def test_of_the_same_age_the_name_decides() -> None:
    own = gateway(listener("http", hostname="a.test"))
    sets = [added(listener("one", hostname="b.test"), name=name) for name in ("b", "a")]
    assert conflicts(own, *sets) == {"app/b/one": "HostnameConflict"}


def test_another_protocol_on_a_port_loses() -> None:
    own = gateway(listener("http", hostname="a.test"))
    assert conflicts(own, added(listener("tcp", protocol="TCP"))) == {
        "app/more/tcp": "ProtocolConflict"
    }


def test_what_a_gateway_itself_cannot_tell_apart_is_in_nobodys_way() -> None:
    own = gateway(listener("x", hostname="a.test"), listener("y", hostname="a.test"))
    found = conflicts(own, added(listener("one", hostname="a.test")))
    assert found == {"x": "HostnameConflict", "y": "HostnameConflict"}


@pytest.mark.parametrize(
    ("namespaces", "from_app", "from_team"),
    [
        ({}, False, False),
        ({"from": "None"}, False, False),
        ({"from": "Same"}, True, False),
        ({"from": "All"}, True, True),
        ({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}, False, True),
    ],
)
def test_a_gateway_says_whose_listeners_it_takes(
    namespaces: Json, *, from_app: bool, from_team: bool
) -> None:
    own = gateway(listener("http"), allowedListeners={"namespaces": namespaces})
    one = listener("one", hostname="b.test")
    assert lets_in(own, added(one), {}) is from_app
    assert lets_in(own, added(one, namespace="team"), {"team": "a"}) is from_team


def _summary(conditions: tuple[Condition, ...]) -> dict[str, tuple[Any, str]]:
    assert {one.observed_generation for one in conditions} == {5}
    return {one.type: (one.status, one.reason) for one in conditions}


def test_a_set_with_a_good_listener_is_accepted() -> None:
    own = gateway(listener("http", hostname="a.test"))
    one = added(listener("good", hostname="b.test"), listener("bad", hostname="a.test"))
    around = Surroundings(attached_routes={"app/more/good": 2}, tls={}, pending={})
    status = status_of(one, own, around)
    assert _summary(status.conditions) == {
        "Accepted": (True, "ListenersNotValid"),
        "Programmed": (True, "Programmed"),
    }
    good, bad = status.listeners
    assert (good.name, good.attached_routes) == ("good", 2)
    assert _summary(bad.conditions) == {
        "Accepted": (False, "HostnameConflict"),
        "Conflicted": (True, "HostnameConflict"),
        "ResolvedRefs": (True, "ResolvedRefs"),
        "Programmed": (False, "HostnameConflict"),
    }


def test_a_set_without_a_good_listener_is_not_accepted() -> None:
    own = gateway(listener("http", hostname="a.test"))
    tls = {"certificateRefs": [{"name": "nowhere"}]}
    one = added(listener("https", 443, "HTTPS", tls=tls), listener("bad", hostname="a.test"))
    around = Surroundings(
        attached_routes={},
        tls={"app/more/https": Tls(certificates=ListenerCertificates())},
        pending={},
    )
    status = status_of(one, own, around)
    assert _summary(status.conditions) == {
        "Accepted": (False, "ListenersNotValid"),
        "Programmed": (False, "ListenersNotValid"),
    }


def test_a_set_waits_for_its_gateway() -> None:
    own = gateway(
        listener("http", hostname="a.test"), addresses=[{"type": "Hostname", "value": "x"}]
    )
    one = added(listener("good", hostname="b.test"))
    status = status_of(one, own, NOTHING)
    assert _summary(status.conditions) == {
        "Accepted": (False, "ParentNotAccepted"),
        "Programmed": (False, "ParentNotProgrammed"),
    }
    pending = Surroundings(
        attached_routes={}, tls={}, pending={"app/more/good": "node n1 has not answered"}
    )
    own = gateway(listener("http", hostname="a.test"))
    status = status_of(one, own, pending)
    assert _summary(status.conditions)["Programmed"] == (False, "Pending")


def test_a_set_that_is_not_let_in_says_so() -> None:
    status = refused_status(added(listener("good")))
    assert _summary(status.conditions) == {
        "Accepted": (False, "NotAllowed"),
        "Programmed": (False, "NotAllowed"),
    }


@pytest.mark.parametrize(("allowed", "watched"), [("None", False), ("Same", True), ("All", True)])
def test_secrets_of_a_set_are_read_only_if_the_gateway_lets_it_in(
    allowed: str, *, watched: bool
) -> None:
    wanted = {"namespaces": {"from": allowed}}
    own = gateway(listener("http"), allowedListeners=wanted, gatewayClassName="c")
    one = added(listener("https", 443, "HTTPS", tls={"certificateRefs": [{"name": "s"}]}))
    found = watched_secrets([gateway_class(), own, one])
    assert found == ({NamespacedName("app", "s")} if watched else set())
