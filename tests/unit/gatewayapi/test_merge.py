"""Rules of several routes become one list, the first match first."""

from __future__ import annotations

import itertools
from typing import Any

from penstock.gatewayapi.attach import MeshRole
from penstock.gatewayapi.httproute import translate
from penstock.gatewayapi.merge import (
    MeshRoute,
    ranked,
    service_virtual_host,
    virtual_host,
    visible,
)
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.route import VirtualHost
from support.gateway_objects import Json, http_route, references


def route(name: str, *paths: str, namespace: str = "app", **more: Any) -> TranslatedRoute:
    rules: list[Json] = [{"matches": [{"path": {"value": path}}]} for path in paths or ("/",)]
    return translate(http_route(name, namespace, rules=rules, **more), references())


def names(host: VirtualHost | None) -> list[str]:
    assert host is not None
    return [one.name for one in host.routes]


def test_longer_prefix_goes_first_across_routes_in_any_order_of_input() -> None:
    groups = [
        ranked(route("a", "/", "/x/y")),
        ranked(route("b", "/x")),
        ranked(route("c", "/z/z/z")),
    ]
    for order in itertools.permutations(groups):
        host = virtual_host("a.test", order)
        assert names(host) == ["app/c/0/0", "app/a/1/0", "app/b/0/0", "app/a/0/0"]
        assert host.hostname == "a.test"


def test_older_route_goes_first_where_matches_are_alike() -> None:
    old = route("z", created="2025-01-01T00:00:00Z")
    new = route("a", created="2026-01-01T00:00:00Z")
    assert names(virtual_host("*", [ranked(new), ranked(old)])) == ["app/z/0/0", "app/a/0/0"]


def test_narrower_hostname_goes_first_and_leaves_the_rest_to_the_wider() -> None:
    exact = ranked(route("exact", "/path", created="2026-01-02T00:00:00Z"), "abc.example.com")
    wild = ranked(route("wild", "/path/prefix"), "*.example.com")
    host = virtual_host("abc.example.com", [wild, exact])
    assert names(host) == ["app/exact/0/0", "app/wild/0/0"]


def test_route_that_is_asked_by_two_of_its_hostnames_is_there_once() -> None:
    one = route("a", "/", "/x")
    host = virtual_host("x.a.test", [ranked(one, "*.test"), ranked(one, "*.a.test")])
    assert names(host) == ["app/a/1/0", "app/a/0/0"]


def mesh(name: str, role: MeshRole, namespace: str) -> MeshRoute:
    return MeshRoute(
        namespace=namespace, role=role, ranked=ranked(route(name, namespace=namespace))
    )


PRODUCER = mesh("producer", MeshRole.PRODUCER, "app")
CONSUMER = mesh("consumer", MeshRole.CONSUMER, "client")


def test_consumer_route_holds_for_clients_of_its_namespace_instead_of_producer_routes() -> None:
    assert visible([PRODUCER, CONSUMER], "client") == (CONSUMER,)


def test_producer_route_holds_for_everybody_else() -> None:
    assert visible([PRODUCER, CONSUMER], "other") == (PRODUCER,)
    assert visible([PRODUCER, CONSUMER], None) == (PRODUCER,)
    assert visible([PRODUCER, CONSUMER], "app") == (PRODUCER,)


def test_service_host_is_the_merge_of_one_group() -> None:
    more = mesh("another", MeshRole.PRODUCER, "app")
    host = service_virtual_host([PRODUCER, more, CONSUMER], "other")
    assert names(host) == ["app/another/0/0", "app/producer/0/0"]
    assert host is not None
    assert host.hostname == "*"
    assert names(service_virtual_host([PRODUCER, CONSUMER], "client")) == ["client/consumer/0/0"]


def test_service_without_visible_routes_is_not_governed() -> None:
    assert service_virtual_host([CONSUMER], "other") is None
    assert service_virtual_host([], None) is None
