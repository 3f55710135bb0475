"""Pods as Kubernetes shows them: without address at first, of the system, with the node's network;
and the addresses that are no pod's."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Reach, Settings
from penstock.core.events import Event, EventType
from penstock.core.objects import Broken, Object
from penstock.ir.policy import Reserved
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from penstock.xds.resource import Resource
from support import objects

SYSTEM = "penstock-system"
CLUSTER = Settings(reach=Reach.CLUSTER, system_namespace=SYSTEM)
ENVOY = {"app.kubernetes.io/name": "penstock-envoy"}
UID = "uid-Pod/shop/p"


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler(CLUSTER)
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


def change(compiler: Compiler, thing: Object | Broken) -> None:
    compiler.apply([Event(EventType.MODIFIED, thing)])
    assert compiler.failures == {}


def of(compiler: Compiler, node: str, type_url: str) -> dict[str, Resource]:
    return {one.name: one for one in compiler.resources(node) if one.type_url == type_url}


def workload(compiler: Compiler, uid: str = UID) -> node_pb2.Workload:
    return node_pb2.Workload.FromString(of(compiler, "n2", types.WORKLOAD)[uid].body)


def peers(compiler: Compiler) -> dict[str, tuple[list[str], int]]:
    found = of(compiler, "n1", types.PEER)
    made = {name: node_pb2.Peer.FromString(one.body) for name, one in found.items()}
    return {name: (list(one.addresses), one.identity) for name, one in made.items()}


def raw_pod(status: dict[str, Any], **spec: Any) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "shop", "labels": {"app": "p"}},
            "spec": {"containers": [{"name": "app", "image": "app"}], **spec},
            "status": status,
        }
    )


def http_policy(peer: dict[str, Any]) -> Object | Broken:
    port = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
    rule = {**peer, "toPorts": [port]}
    return objects.policy("c", {"endpointSelector": {}, "ingress": [rule]})


def test_a_pod_has_its_listeners_as_soon_as_it_has_a_node() -> None:
    compiler = compiled(objects.pod("p", "", {"app": "p"}))
    assert set(of(compiler, "n1", types.LISTENER)) == {f"{UID}/egress", f"{UID}/ingress"}
    assert of(compiler, "n2", types.LISTENER) == {}
    assert list(workload(compiler).addresses) == []
    assert workload(compiler).identity > Reserved.INGRESS
    assert str(workload(compiler).identity) in of(compiler, "n1", types.POLICY)


def test_what_depends_on_the_address_of_a_pod_comes_with_it() -> None:
    policy = http_policy({"fromEndpoints": [{}]})
    compiler = compiled(objects.pod("p", "", {"app": "p"}), policy)
    assert of(compiler, "n1", types.SCOPE) == {}
    before = of(compiler, "n1", types.LISTENER)
    change(compiler, objects.pod("p", "10.244.0.1", {"app": "p"}))
    assert list(workload(compiler).addresses) == ["10.244.0.1"]
    assert set(of(compiler, "n1", types.SCOPE)) == {"in|10.244.0.1:8080"}
    assert of(compiler, "n1", types.LISTENER) == before


def test_a_pod_without_a_node_is_nobodys_yet() -> None:
    compiler = compiled(raw_pod({"phase": "Pending"}))
    assert of(compiler, "n1", types.WORKLOAD) == {}
    assert of(compiler, "n1", types.LISTENER) == {}


def test_a_pod_that_ended_before_it_had_an_address_goes() -> None:
    compiler = compiled(raw_pod({"phase": "Pending"}, nodeName="n1"))
    assert of(compiler, "n1", types.WORKLOAD) != {}
    change(compiler, raw_pod({"phase": "Failed"}, nodeName="n1"))
    assert of(compiler, "n1", types.WORKLOAD) == of(compiler, "n1", types.LISTENER) == {}


def test_a_pod_with_the_network_of_its_node_is_no_workload() -> None:
    status = {"phase": "Running", "podIPs": [{"ip": "172.31.0.11"}]}
    compiler = compiled(raw_pod(status, nodeName="n1", hostNetwork=True))
    assert of(compiler, "n1", types.WORKLOAD) == of(compiler, "n1", types.LISTENER) == {}


def test_pods_of_the_system_are_known_and_not_captured() -> None:
    compiler = compiled(objects.pod("p", "10.244.0.1", {"app": "p"}, namespace=SYSTEM))
    found = workload(compiler, f"uid-Pod/{SYSTEM}/p")
    assert list(found.addresses) == ["10.244.0.1"]
    assert found.identity > Reserved.INGRESS
    assert of(compiler, "n1", types.LISTENER) == {}


def test_what_comes_from_the_pods_of_envoy_is_ingress_on_all_nodes() -> None:
    compiler = compiled(objects.pod("e", "10.244.0.9", ENVOY, namespace=SYSTEM))
    name = f"pod/uid-Pod/{SYSTEM}/e"
    assert peers(compiler) == {name: (["10.244.0.9"], Reserved.INGRESS)}
    assert of(compiler, "n1", types.WORKLOAD) == of(compiler, "n1", types.POLICY) == {}


@pytest.mark.parametrize("namespace", ["shop", "kube-system"])
def test_the_label_of_envoy_counts_in_the_system_namespace_only(namespace: str) -> None:
    compiler = compiled(objects.pod("e", "10.244.0.9", ENVOY, namespace=namespace))
    assert peers(compiler) == {}
    assert len(of(compiler, "n1", types.WORKLOAD)) == 1


def test_a_pod_of_envoy_that_has_ended_stands_for_nothing() -> None:
    pod = objects.pod("e", "10.244.0.9", ENVOY, namespace=SYSTEM)
    compiler = compiled(pod)
    compiler.apply([Event(EventType.DELETED, pod)])
    assert peers(compiler) == {}


def test_a_policy_that_lets_gateways_in_knows_the_pods_of_envoy() -> None:
    things = [
        objects.pod("p", "10.244.0.1", {"app": "p"}),
        objects.pod("e", "10.244.9.9", ENVOY, namespace=SYSTEM),
        http_policy({"fromEntities": ["ingress"]}),
    ]
    scope = of(compiled(*things), "n1", types.SCOPE)["in|10.244.0.1:8080"]
    assert b"10.244.9.9" in scope.body


def test_nodes_are_remote_nodes_to_each_other() -> None:
    compiler = compiled(objects.node("n1", "172.31.0.11"), objects.node("n2", "172.31.0.12"))
    assert peers(compiler) == {
        "node/n1": (["172.31.0.11"], Reserved.REMOTE_NODE),
        "node/n2": (["172.31.0.12"], Reserved.REMOTE_NODE),
    }
    compiler.apply([Event(EventType.DELETED, objects.node("n2", "172.31.0.12"))])
    assert set(peers(compiler)) == {"node/n1"}


def test_an_address_that_a_pod_has_is_no_nodes() -> None:
    compiler = compiled(
        objects.node("n1", "10.244.0.1"), objects.pod("p", "10.244.0.1", {"app": "p"})
    )
    assert peers(compiler) == {}


def test_endpoints_at_a_node_are_judged_as_the_node() -> None:
    egress = [{"toEntities": ["remote-node"], "toPorts": [{"ports": [{"port": "8080"}]}]}]
    things = [
        objects.node("n1", "172.31.0.11"),
        objects.pod("p", "10.244.0.1", {"app": "p"}),
        objects.service("front", "10.96.0.1"),
        objects.endpoint_slice("front", ["172.31.0.11"]),
        objects.http_route("r", parent=objects.on_service("front"), backends=[("front", 1)]),
        objects.policy("c", {"endpointSelector": {"matchLabels": {"app": "p"}}, "egress": egress}),
    ]
    compiler = compiled(*things)
    allowing = of(compiler, "n1", types.EXTENSION)["eg|shop/front/80"]
    change(compiler, objects.node("n1", "172.31.0.99"))
    assert of(compiler, "n1", types.EXTENSION)["eg|shop/front/80"].body != allowing.body
