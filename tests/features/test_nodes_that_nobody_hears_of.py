"""Endpoints of nodes that the node controller misses are asked where there is no other.

That is so for all nodes at once when an API server comes back and is slow: it makes every pod not
Ready, and every Service would be without endpoints until all kubelets have said a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.endpoint.v3 import endpoint_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects

Thing = Object | Broken
FIRST, SECOND = "10.244.1.1", "10.244.2.1"
PODS = {FIRST: "web-1", SECOND: "web-2"}
KUBERNETES = "endpointslice-controller.k8s.io"
ON = {FIRST: "n1", SECOND: "n2"}


def pod(ip: str, **how: Any) -> Thing:
    return objects.pod(PODS[ip], ip, {"app": "web"}, node=ON[ip], **how)


def slices(*ready: str, managed_by: str) -> list[Thing]:
    """Return the endpoints of both pods, of which some are ready."""

    def one(ips: Iterable[str], *, ready: bool) -> Thing:
        return objects.endpoint_slice(
            "web",
            ips,
            pods=PODS,
            on=ON,
            ready=ready,
            managed_by=managed_by,
            suffix=f"{ready}".lower(),
        )

    return [one(ready, ready=True), one([ip for ip in PODS if ip not in ready], ready=False)]


def world(
    *pods: Thing, ready: Iterable[str] = (), managed_by: str = KUBERNETES, **service: Any
) -> Compiler:
    """Return what comes of a Service, a Gateway that leads to it, and two pods."""
    settings = Settings(reach=Reach.CLUSTER, system_namespace="penstock-system")
    compiler = Compiler(settings)
    things = [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.http_route("r", parent={"name": "front"}, backends=[("web", 1)]),
        objects.service("web", "10.96.0.1", **service),
        *(objects.node(name, f"192.0.2.{name[1:]}") for name in ("n1", "n2")),
        *slices(*ready, managed_by=managed_by),
        *pods,
    ]
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def asked_by_kernel(compiler: Compiler, node: str = "n1") -> list[str]:
    (found,) = [
        node_pb2.Service.FromString(one.body)
        for one in compiler.resources(node)
        if one.type_url == types.SERVICE and one.name == "shop/web/80/tcp"
    ]
    return [one.address for one in found.backends]


def asked_by_envoy(compiler: Compiler) -> list[str]:
    (found,) = [
        endpoint_pb2.ClusterLoadAssignment.FromString(one.body)
        for one in compiler.resources("n1")
        if one.type_url == types.ENDPOINTS and one.name == "gw|shop/web/80"
    ]
    return [
        one.endpoint.address.socket_address.address
        for group in found.endpoints
        for one in group.lb_endpoints
    ]


def test_when_all_nodes_are_missed_every_endpoint_stays() -> None:
    compiler = world(pod(FIRST, unheard=True), pod(SECOND, unheard=True))
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == [FIRST, SECOND]


def test_as_long_as_one_endpoint_is_ready_it_has_everything() -> None:
    compiler = world(pod(FIRST, unheard=True), pod(SECOND), ready=(SECOND,))
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == [SECOND]


@pytest.mark.parametrize(
    "how",
    [
        {"ready": False},
        {"unheard": True, "gate": False},
        {"unheard": True, "deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
    ids=["its kubelet says so", "a readiness gate says so", "it ends"],
)
def test_a_pod_that_is_not_ready_for_itself_is_not_asked(how: dict[str, Any]) -> None:
    compiler = world(pod(FIRST, **how), pod(SECOND, unheard=True, gate=True))
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == [SECOND]


def test_endpoints_whose_pods_are_not_known_are_not_asked() -> None:
    compiler = world()
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == []


def test_who_writes_slices_by_rules_of_his_own_has_the_word() -> None:
    pods = pod(FIRST, unheard=True), pod(SECOND, unheard=True)
    compiler = world(*pods, managed_by="example.com")
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == []


def test_the_kubelet_that_comes_back_has_the_word_again() -> None:
    compiler = world(pod(FIRST, unheard=True), pod(SECOND, unheard=True))
    compiler.apply([Event(EventType.MODIFIED, pod(FIRST, ready=False))])
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == [SECOND]


def test_pods_that_are_heard_of_again_stay_until_their_endpoints_follow() -> None:
    compiler = world(pod(FIRST, unheard=True), pod(SECOND, unheard=True))
    compiler.apply([Event(EventType.MODIFIED, pod(ip)) for ip in PODS])
    assert asked_by_kernel(compiler) == asked_by_envoy(compiler) == [FIRST, SECOND]


def test_where_pods_stay_on_their_node_its_own_endpoints_stay() -> None:
    compiler = world(
        pod(FIRST, unheard=True), pod(SECOND), ready=(SECOND,), internalTrafficPolicy="Local"
    )
    assert asked_by_kernel(compiler, "n1") == [FIRST]
    assert asked_by_kernel(compiler, "n2") == [SECOND]
