"""XBackends outside of the cluster: what they are told, and who gets there from pods."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.meta.networks import PRIVATE_NETWORKS
from penstock.pb.envoy.config.core.v3 import extension_pb2
from penstock.pb.envoy.config.rbac.v3 import rbac_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import (
    upstream_ip_port_matcher_pb2 as upstream_pb2,
)
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects


def _crd(version: str) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "xbackends.gateway.networking.x-k8s.io",
                "annotations": {"gateway.networking.k8s.io/bundle-version": version},
            },
            "spec": {"group": "gateway.networking.k8s.io"},
        }
    )


OUTSIDE = objects.xbackend("outside", "a.test")


@pytest.mark.parametrize(
    ("version", "member", "ref"),
    [("v1.6.3", "parents", "parentRef"), ("v1.7.0", "ancestors", "ancestorRef")],
)
def test_a_status_has_the_members_of_its_release(version: str, member: str, ref: str) -> None:
    compiler = Compiler()
    route = objects.http_route("r", parent={"name": "front"}, backends=[("outside", 1)])
    beside = [objects.gateway_class(), objects.gateway("front"), route, _crd(version)]
    compiler.apply(objects.added([*beside, OUTSIDE]))
    status = status_of(compiler.db, OUTSIDE, lambda _: None)
    assert status is not None
    ((found,),) = [status[member]]
    assert found[ref]["name"] == "front"
    said = [(one["type"], one["status"]) for one in found["conditions"]]
    assert said == [("Accepted", "True"), ("ResolvedRefs", "True")]


def test_with_a_crd_of_another_release_a_status_is_looked_at_again() -> None:
    compiler = Compiler()
    route = objects.http_route("r", parent={"name": "front"}, backends=[("outside", 1)])
    beside = [objects.gateway_class(), objects.gateway("front"), route, _crd("v1.6.3")]
    compiler.apply(objects.added([*beside, OUTSIDE]))
    compiler.statuses.follow(OUTSIDE.ref)
    compiler.statuses.take()
    compiler.apply([Event(EventType.MODIFIED, _crd("v1.7.0"))])
    assert compiler.statuses.take() == (OUTSIDE.ref,)


def test_who_nobody_sends_to_is_told_nothing() -> None:
    compiler = Compiler()
    compiler.apply(objects.added([objects.gateway_class(), objects.gateway("front"), OUTSIDE]))
    assert status_of(compiler.db, OUTSIDE, lambda _: None) is None
    assert not [one for one in compiler.resources("n1") if one.name.startswith("host|")]


def _on_service() -> list[Object | Broken]:
    """Return a route on a Service that leads outside, and two pods, one with egress rules."""
    item = {"ports": [{"port": "80", "protocol": "TCP"}]}
    spec = {
        "endpointSelector": {"matchLabels": {"app": "front"}},
        "egress": [{"toEntities": ["world"], "toPorts": [item]}],
    }
    return [
        objects.service("api", "10.96.0.1"),
        objects.endpoint_slice("api", ["10.244.0.2"]),
        objects.pod("front", "10.244.0.1", {"app": "front"}),
        objects.pod("api", "10.244.0.2", {"app": "api"}),
        objects.policy("egress", spec),
        objects.http_route("r", parent=objects.on_service("api"), backends=[("outside", 1)]),
        OUTSIDE,
    ]


def _rules(compiler: Compiler) -> dict[str, rbac_pb2.Policy]:
    """Return the egress rules toward the place outside, by name."""
    (found,) = [one for one in compiler.resources("n1") if one.name == "eg|shop/~outside"]
    made = extension_pb2.TypedExtensionConfig.FromString(found.body)
    filter_ = http_rbac_pb2.RBAC.FromString(made.typed_config.value)
    assert filter_.rules.action == rbac_pb2.RBAC.ALLOW
    return dict(filter_.rules.policies)


def _networks(policy: rbac_pb2.Policy) -> set[str]:
    """Return the networks that a policy does not hold for."""
    (permission,) = policy.permissions
    found: set[str] = set()
    for one in permission.not_rule.or_rules.rules:
        config = one.matcher.typed_config.value
        network = upstream_pb2.UpstreamIpPortMatcher.FromString(config).upstream_ip
        found.add(f"{network.address_prefix}/{network.prefix_len.value}")
    return found


EGRESS = "CiliumNetworkPolicy shop/egress spec.egress[0].toPorts[0]"
PRIVATE = {f"{address}/{length}" for address, length in PRIVATE_NETWORKS}


def test_for_who_has_egress_rules_the_world_is_without_private_networks_and_pods() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(_on_service()))
    assert compiler.failures == {}
    rules = _rules(compiler)
    assert _networks(rules.pop(EGRESS)) == PRIVATE
    (others,) = rules.values()
    assert others.principals[0].and_ids.ids[1].HasField("not_id")
    public = objects.pod("public", "203.0.113.7", {"app": "api"})
    changes = compiler.apply(objects.added([public]))
    touched = {types.short(one.type_url) for each in changes for one in each.delta.upserts}
    assert touched == {"TypedExtensionConfig", "Workload", "Listener"}
    found = _rules(compiler)[EGRESS]
    assert _networks(found) == {*PRIVATE, "203.0.113.7/32"}


def test_a_pod_more_touches_nothing_that_leads_outside() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(_on_service()))
    changes = compiler.apply(objects.added([objects.pod("x", "10.244.0.3", {"app": "x"})]))
    touched = {one.name for change in changes for one in change.delta.upserts}
    assert not [name for name in touched if "outside" in name]


def test_the_kernel_leaves_it_to_envoy_who_may_go_outside() -> None:
    compiler = Compiler()
    compiler.apply(objects.added(_on_service()))
    (found,) = [one for one in compiler.resources("n1") if one.type_url == types.SERVICE]
    made = node_pb2.Service.FromString(found.body)
    assert made.proxy
    assert not made.backends
