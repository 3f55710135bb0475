"""Routes join listeners and Service ports, or a condition says why not."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.kinds import Service
from penstock.core.objects import Broken
from penstock.gatewayapi.attach import (
    GatewayAttachment,
    ListenerTable,
    MeshRole,
    ParentKind,
    ServiceAttachment,
    attach_to_gateway,
    attach_to_service,
    head_of,
    kind_of,
    target_of,
)
from penstock.gatewayapi.resources import Gateway, HTTPRoute
from penstock.meta.names import NamespacedName
from support.gateway_objects import (
    Json,
    broken_route,
    from_namespaces,
    gateway,
    http_route,
    listener,
    service,
)


def attach(
    route: HTTPRoute | Broken, to: Gateway, labels: dict[str, str] | None = None
) -> GatewayAttachment:
    head = head_of(route)
    table = ListenerTable.of(to.spec.listeners)
    return attach_to_gateway(head, head.parents[0], table, labels or {})


def joined(attachment: GatewayAttachment) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in attachment.hostnames:
        found.setdefault(one.listener, []).append(one.hostname)
    return found


def attach_service(route: HTTPRoute, to: Service | None) -> ServiceAttachment:
    head = head_of(route)
    return attach_to_service(head, head.parents[0], to)


def reason(attachment: GatewayAttachment | ServiceAttachment) -> tuple[bool | None, str]:
    return attachment.accepted.status, attachment.accepted.reason


def test_route_without_hostnames_gets_those_of_the_listeners() -> None:
    gw = gateway(listener(), listener("wild", hostname="*.a.test"))
    assert joined(attach(http_route(), gw)) == {"http": ["*"], "wild": ["*.a.test"]}


def test_route_gets_what_its_hostnames_and_the_listeners_share() -> None:
    gw = gateway(
        listener("any"),
        listener("wild", hostname="*.a.test"),
        listener("one", hostname="x.b.test"),
        listener("none", hostname="c.test"),
    )
    route = http_route(hostnames=["y.a.test", "*.b.test", "a.test"])
    assert joined(attach(route, gw)) == {
        "any": ["*.b.test", "a.test", "y.a.test"],
        "wild": ["y.a.test"],
        "one": ["x.b.test"],
    }


def test_attachment_keeps_the_hostname_as_the_route_writes_it() -> None:
    gw = gateway(listener(hostname="x.b.test"))
    (one,) = attach(http_route(hostnames=["*.test", "*.b.test"]), gw).hostnames
    assert (one.hostname, one.written) == ("x.b.test", "*.b.test")


def test_accepted_condition_carries_the_generation() -> None:
    accepted = attach(http_route(), gateway(listener())).accepted
    assert (accepted.status, accepted.reason) == (True, "Accepted")
    assert accepted.observed_generation == 7


def test_route_without_overlap_is_not_accepted() -> None:
    attachment = attach(http_route(hostnames=["b.test"]), gateway(listener(hostname="a.test")))
    assert reason(attachment) == (False, "NoMatchingListenerHostname")
    assert attachment.hostnames == ()


@pytest.mark.parametrize(
    ("parent", "names"),
    [
        ({}, ["first", "second"]),
        ({"sectionName": "second"}, ["second"]),
        ({"port": 80}, ["first"]),
        ({"port": 81, "sectionName": "second"}, ["second"]),
    ],
)
def test_section_name_and_port_choose_listeners(parent: Json, names: list[str]) -> None:
    gw = gateway(listener("first", 80), listener("second", 81))
    attachment = attach(http_route(parents=[{"name": "gw", **parent}]), gw)
    assert list(attachment.listeners) == names


@pytest.mark.parametrize(
    "parent",
    [{"sectionName": "third"}, {"port": 82}, {"port": 80, "sectionName": "second"}],
)
def test_parent_ref_that_chooses_no_listener_is_not_accepted(parent: Json) -> None:
    gw = gateway(listener("first", 80), listener("second", 81))
    attachment = attach(http_route(parents=[{"name": "gw", **parent}]), gw)
    assert reason(attachment) == (False, "NoMatchingParent")


def test_listener_admits_only_its_own_namespace_by_default() -> None:
    gw = gateway(listener(), namespace="infra")
    route = http_route(parents=[{"name": "gw", "namespace": "infra"}])
    assert reason(attach(route, gw)) == (False, "NotAllowedByListeners")


def test_listener_admits_all_namespaces_where_it_says_so() -> None:
    gw = gateway(listener(allowedRoutes=from_namespaces("All")), namespace="infra")
    route = http_route(parents=[{"name": "gw", "namespace": "infra"}])
    assert reason(attach(route, gw)) == (True, "Accepted")


@pytest.mark.parametrize(
    ("wanted", "accepted"),
    [
        ({"team": "shop"}, True),
        ({"team": "other"}, False),
        ({"kubernetes.io/metadata.name": "app"}, True),
    ],
)
def test_listener_admits_namespaces_by_label(wanted: dict[str, str], *, accepted: bool) -> None:
    gw = gateway(listener(allowedRoutes=from_namespaces("Selector", **wanted)), namespace="infra")
    route = http_route(parents=[{"name": "gw", "namespace": "infra"}])
    assert attach(route, gw, {"team": "shop"}).accepted.status is accepted


def test_selector_without_a_selector_admits_nobody() -> None:
    gw = gateway(listener(allowedRoutes=from_namespaces("Selector")))
    assert reason(attach(http_route(), gw)) == (False, "NotAllowedByListeners")


@pytest.mark.parametrize(
    "given",
    [
        listener(allowedRoutes={"kinds": [{"kind": "GRPCRoute"}]}),
        listener(allowedRoutes={"kinds": [{"kind": "HTTPRoute", "group": "other.test"}]}),
        listener(protocol="TCP"),
    ],
)
def test_listener_for_other_kinds_of_routes_does_not_admit_http_routes(given: Json) -> None:
    assert reason(attach(http_route(), gateway(given))) == (False, "NotAllowedByListeners")


def test_one_willing_listener_is_enough() -> None:
    gw = gateway(listener("tcp", 90, "TCP"), listener("other", hostname="b.test"), listener())
    attachment = attach(http_route(hostnames=["a.test"]), gw)
    assert attachment.listeners == ("http",)


def test_listener_that_is_not_accepted_takes_part_in_attachment() -> None:
    gw = gateway(listener("a"), listener("b"))
    assert attach(http_route(), gw).listeners == ("a", "b")


def mesh_route(own: str = "app", **parent: Any) -> HTTPRoute:
    reference = {"group": "", "kind": "Service", "name": "svc", **parent}
    return http_route(namespace=own, parents=[reference])


def test_route_in_the_namespace_of_its_service_is_a_producer_route() -> None:
    attachment = attach_service(mesh_route(), service("svc", "app", 80, 8080))
    assert (attachment.role, attachment.ports) == (MeshRole.PRODUCER, (80, 8080))
    assert reason(attachment) == (True, "Accepted")


def test_route_in_another_namespace_is_a_consumer_route() -> None:
    attachment = attach_service(mesh_route("client", namespace="app"), service("svc"))
    assert (attachment.role, attachment.ports) == (MeshRole.CONSUMER, (80,))


@pytest.mark.parametrize("parent", [{"port": 8080}, {"sectionName": "p8080"}])
def test_port_or_port_name_limits_a_mesh_route(parent: Json) -> None:
    attachment = attach_service(mesh_route(**parent), service("svc", "app", 80, 8080))
    assert attachment.ports == (8080,)


def test_udp_port_is_not_governed() -> None:
    udp = {"name": "dns", "port": 53, "protocol": "UDP"}
    attachment = attach_service(mesh_route(), service("svc", "app", 80, udp))
    assert attachment.ports == (80,)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "NoMatchingParent"),
        (service("svc", "app", 81), "NoMatchingParent"),
        (service("svc", clusterIP="None"), "UnsupportedValue"),
        (
            service("svc", type="ExternalName", externalName="a.test", clusterIP=""),
            "UnsupportedValue",
        ),
    ],
)
def test_service_that_cannot_be_a_parent_is_not_accepted(given: Service | None, why: str) -> None:
    attachment = attach_service(mesh_route(port=80), given)
    assert reason(attachment) == (False, why)
    assert attachment.ports == ()


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        ({}, ParentKind.GATEWAY),
        ({"kind": "Service", "group": ""}, ParentKind.SERVICE),
        ({"kind": "Service"}, ParentKind.FOREIGN),
        ({"kind": "ListenerSet"}, ParentKind.LISTENER_SET),
        ({"kind": "XListenerSet"}, ParentKind.FOREIGN),
    ],
)
def test_parent_ref_points_at_a_kind(parent: Json, kind: ParentKind) -> None:
    (reference,) = http_route(parents=[{"name": "gw", **parent}]).spec.parent_refs
    assert kind_of(reference) is kind


def test_parent_ref_without_namespace_stays_in_that_of_the_route() -> None:
    route = http_route(parents=[{"name": "a"}, {"name": "b", "namespace": "infra"}])
    assert [target_of(one, route.key) for one in route.spec.parent_refs] == [
        NamespacedName("app", "a"),
        NamespacedName("infra", "b"),
    ]


def test_weights_do_not_reach_the_head_of_a_route() -> None:
    def weighted(weight: int) -> HTTPRoute:
        return http_route(rules=[{"backendRefs": [{"name": "a", "port": 1, "weight": weight}]}])

    assert head_of(weighted(1)) == head_of(weighted(2))


WRONG_RULE: Json = {"matches": [{"path": {"value": "wrong"}}]}


def test_broken_route_is_attached_by_what_can_be_read() -> None:
    route = broken_route(hostnames=["a.test", "B!", "b.test"], rules=[WRONG_RULE])
    gw = gateway(listener(hostname="*.test"))
    assert joined(attach(route, gw)) == {"http": ["a.test", "b.test"]}


def test_broken_route_without_hostnames_is_attached_for_all() -> None:
    assert joined(attach(broken_route(rules=[WRONG_RULE]), gateway(listener()))) == {"http": ["*"]}


def test_broken_route_whose_hostnames_cannot_be_read_takes_nobodys_traffic() -> None:
    route = broken_route(hostnames=["B!"], rules=[WRONG_RULE])
    assert joined(attach(route, gateway(listener()))) == {"http": ["unreadable.invalid"]}


def test_broken_route_with_a_misspelt_field_for_hostnames_takes_nobodys_traffic() -> None:
    route = broken_route(rules=[WRONG_RULE])
    spec = {**route.raw["spec"], "hosts": ["a.test"]}
    head = head_of(
        Broken(
            of_kind="HTTPRoute",
            metadata=route.metadata,
            raw={"spec": spec},
            problems=route.problems,
        )
    )
    assert head.hostnames == ("unreadable.invalid",)


@pytest.mark.parametrize(
    "spec", [None, [], "x", {"parentRefs": 1, "hostnames": 2}, {"parentRefs": [3]}]
)
def test_broken_route_that_is_unreadable_has_no_parents(spec: Any) -> None:
    route = broken_route(rules=[WRONG_RULE])
    unreadable = Broken(
        of_kind="HTTPRoute", metadata=route.metadata, raw={"spec": spec}, problems=()
    )
    assert head_of(unreadable).parents == ()
