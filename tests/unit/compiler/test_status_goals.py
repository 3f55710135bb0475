"""Which statuses may have changed is known without looking at all of them."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.decode import examine
from penstock.core.events import Event, EventType
from penstock.core.kinds import Service
from penstock.core.objects import Object
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import CONTROLLER_NAME, Gateway, GatewayClass, HTTPRoute
from penstock.meta.names import ObjectRef

GATEWAY = ObjectRef("Gateway", "shop", "g")
A, B = (ObjectRef("HTTPRoute", "shop", name) for name in "ab")


def added(kind: type[Object], name: str, spec: dict[str, Any], generation: int = 1) -> Event:
    metadata = {"name": name, "namespace": "shop", "generation": generation}
    if kind is GatewayClass:
        del metadata["namespace"]
    raw = {"apiVersion": kind.api_versions[0], "kind": kind.kind, "metadata": metadata}
    return Event(EventType.ADDED, examine(kind, raw | {"spec": spec}).object)


def gateway(listener: str = "web") -> Event:
    listeners = [{"name": listener, "port": 80, "protocol": "HTTP"}]
    return added(Gateway, "g", {"gatewayClassName": "ours", "listeners": listeners})


def route(name: str, service: str, generation: int = 1) -> Event:
    rules = [{"backendRefs": [{"name": service, "port": 80}]}]
    return added(HTTPRoute, name, {"parentRefs": [{"name": "g"}], "rules": rules}, generation)


def service(name: str) -> Event:
    return added(Service, name, {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})


@pytest.fixture
def compiler() -> Compiler:
    """Follow a Gateway and two routes."""
    made = Compiler()
    ours = added(GatewayClass, "ours", {"controllerName": CONTROLLER_NAME})
    made.apply([ours, gateway(), route("a", "one"), route("b", "two")])
    for ref in (GATEWAY, A, B):
        made.statuses.follow(ref)
    return made


def changed(compiler: Compiler, *events: Event) -> set[ObjectRef]:
    compiler.apply(events)
    return set(compiler.statuses.take())


def test_new_service_concerns_the_routes_that_name_it(compiler: Compiler) -> None:
    assert changed(compiler, service("one")) == {A}
    assert changed(compiler, service("three")) == set()


def test_new_route_concerns_its_gateway(compiler: Compiler) -> None:
    assert changed(compiler, route("c", "one")) == {GATEWAY}


def test_removed_gateway_concerns_its_routes(compiler: Compiler) -> None:
    gone = Event(EventType.DELETED, gateway().object)
    assert changed(compiler, gone) >= {A, B}


def test_change_without_meaning_for_a_status_concerns_nobody(compiler: Compiler) -> None:
    assert changed(compiler, route("a", "one")) == set()


def test_new_generation_concerns_the_route(compiler: Compiler) -> None:
    assert changed(compiler, route("a", "one", generation=2)) == {A}


def test_object_that_is_dropped_is_not_told(compiler: Compiler) -> None:
    compiler.statuses.drop(A)
    assert changed(compiler, service("one")) == set()


def test_nothing_is_told_after_clear(compiler: Compiler) -> None:
    compiler.statuses.clear()
    assert changed(compiler, service("one"), route("c", "two")) == set()


def test_a_class_concerns_gateways_that_cannot_be_read_and_these_their_listener_sets() -> None:
    compiler = Compiler()
    unread = added(Gateway, "g", {"gatewayClassName": "ours", "listeners": "none"})
    parent = {"parentRef": {"name": "other"}, "listeners": "none"}
    compiler.apply([unread, added(ListenerSet, "set", parent)])
    of_set = ObjectRef("ListenerSet", "shop", "set")
    for ref in (GATEWAY, of_set):
        compiler.statuses.follow(ref)
    class_ = added(GatewayClass, "ours", {"controllerName": CONTROLLER_NAME})
    assert changed(compiler, class_) == {GATEWAY}
    assert status_of(compiler.db, unread.object, lambda _: None) is not None
    listeners = [{"name": "web", "port": 80, "protocol": "HTTP"}]
    other = added(Gateway, "other", {"gatewayClassName": "ours", "listeners": listeners})
    assert changed(compiler, other) == {of_set}
    assert changed(compiler, Event(EventType.DELETED, class_.object)) == {GATEWAY, of_set}
