"""The egress pass judges for each endpoint what its pod would judge; nothing opens by chance."""

from __future__ import annotations

from typing import Any

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.pb.envoy.config.core.v3 import extension_pb2
from penstock.pb.envoy.config.rbac.v3 import rbac_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from penstock.pb.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import (
    upstream_ip_port_matcher_pb2 as upstream_pb2,
)
from support import objects

ADDRESS = "10.244.0.1"


def _slice(name: str, port: int, pod: str = "", address: str = ADDRESS) -> Object | Broken:
    endpoint: dict[str, Any] = {"addresses": [address]}
    if pod:
        endpoint["targetRef"] = {"kind": "Pod", "namespace": "shop", "name": pod}
    return objects.made(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "orders"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [endpoint],
        }
    )


def _compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    route = objects.http_route("r", parent=objects.on_service("orders"), backends=[("orders", 1)])
    compiler.apply(objects.added([objects.service("orders", "10.96.0.1"), route, *things]))
    assert compiler.failures == {}
    return compiler


def _inbound(compiler: Compiler) -> dict[str, rbac_pb2.Policy]:
    (one,) = [r for r in compiler.resources("") if r.name == "in|shop/orders/80"]
    packed = extension_pb2.TypedExtensionConfig.FromString(one.body).typed_config
    return dict(http_rbac_pb2.RBAC.FromString(packed.value).rules.policies)


def test_an_endpoint_outside_of_the_cluster_has_no_rules() -> None:
    assert "Default allow" in _inbound(_compiled(_slice("s", 8080)))


def test_a_pod_that_is_not_known_yet_may_not_be_asked() -> None:
    compiler = _compiled(_slice("s", 8080, pod="orders-0"))
    assert _inbound(compiler) == {}
    compiler.apply(objects.added([objects.pod("orders-0", ADDRESS, {"app": "orders"})]))
    assert "Default allow" in _inbound(compiler)


def test_a_pod_that_cannot_be_read_closes_itself_and_no_other_endpoint() -> None:
    other = "10.244.0.2"
    compiler = _compiled(
        _slice("s", 8080, pod="orders-0"),
        _slice("t", 8080, pod="orders-1", address=other),
        objects.pod("orders-1", other, {"app": "orders"}),
    )
    assert _inbound(compiler)["Default allow"].permissions == [_at(other, 8080)]


def test_a_pod_on_the_host_network_has_no_rules() -> None:
    raw = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "orders-0", "namespace": "shop"},
        "spec": {
            "nodeName": "n1",
            "hostNetwork": True,
            "containers": [{"name": "a", "image": "a"}],
        },
        "status": {"podIPs": [{"ip": ADDRESS}]},
    }
    compiler = _compiled(_slice("s", 8080, pod="orders-0"), objects.made(raw))
    assert "Default allow" in _inbound(compiler)


def _at(address: str, port: int) -> rbac_pb2.Permission:
    matcher = upstream_pb2.UpstreamIpPortMatcher()
    matcher.upstream_ip.address_prefix = address
    matcher.upstream_ip.prefix_len.value = 32
    matcher.upstream_port_range.start = port
    matcher.upstream_port_range.end = port + 1
    made = rbac_pb2.Permission()
    made.matcher.name = "envoy.rbac.matchers.upstream_ip_port"
    made.matcher.typed_config.Pack(matcher)
    return made


def test_each_port_of_a_pod_has_its_own_rules() -> None:
    rule = {
        "fromEndpoints": [{"matchLabels": {"app": "front"}}],
        "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
    }
    compiler = _compiled(
        _slice("one", 8080),
        _slice("two", 9090),
        objects.pod("orders-0", ADDRESS, {"app": "orders"}),
        objects.pod("front-0", "10.244.0.9", {"app": "front"}),
        objects.policy(
            "p", {"endpointSelector": {"matchLabels": {"app": "orders"}}, "ingress": [rule]}
        ),
    )
    found = _inbound(compiler)
    assert found["CiliumNetworkPolicy shop/p spec.ingress[0].toPorts[0]"].permissions == [
        _at(ADDRESS, 8080)
    ]
