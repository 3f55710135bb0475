"""Policies of the whole cluster: none is read yet, so what they select is closed, everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.core.objects import Broken, Object
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects

ALLOWED = [{"fromEndpoints": [{"matchLabels": {"app": "client"}}]}]
PODS = [
    objects.pod("web-0", "10.244.0.1", {"app": "web"}),
    objects.pod("web-1", "10.244.0.2", {"app": "web"}, namespace="other"),
    objects.pod("client-0", "10.244.0.3", {"app": "client"}),
]


def clusterwide(labels: dict[str, str], **rules: Any) -> Object | Broken:
    return objects.made(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumClusterwideNetworkPolicy",
            "metadata": {"name": "all"},
            "spec": {"endpointSelector": {"matchLabels": labels}, **rules},
        }
    )


def verdicts(*policies: Object | Broken) -> dict[str, tuple[bool, bool]]:
    """Return pod → whether its ingress, and its egress, is closed altogether."""
    compiler = Compiler()
    compiler.apply(objects.added([*PODS, *policies]))
    made = compiler.resources("n1")
    closed: dict[int, tuple[bool, bool]] = {}
    for one in made:
        if one.type_url == types.POLICY:
            policy = node_pb2.Policy.FromString(one.body)
            deny = (
                policy.default_ingress == node_pb2.VERDICT_DENY,
                policy.default_egress == node_pb2.VERDICT_DENY,
            )
            closed[policy.identity] = deny if not policy.entries else (False, False)
    workloads = (node_pb2.Workload.FromString(r.body) for r in made if r.type_url == types.WORKLOAD)
    return {f"{one.namespace}/{one.name}": closed[one.identity] for one in workloads}


OPEN, CLOSED, NO_INGRESS = (False, False), (True, True), (True, False)


def test_what_it_selects_is_closed_in_all_namespaces_and_nothing_else_is() -> None:
    found = verdicts(clusterwide({"app": "web"}, ingress=ALLOWED))
    assert found == {"shop/web-0": NO_INGRESS, "other/web-1": NO_INGRESS, "shop/client-0": OPEN}


@pytest.mark.parametrize("key", ["io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace"])
def test_it_may_say_which_namespaces_it_means(key: str) -> None:
    found = verdicts(clusterwide({key: "other"}, ingress=ALLOWED, egress=[]))
    assert found == {"shop/web-0": OPEN, "other/web-1": CLOSED, "shop/client-0": OPEN}


def test_another_policy_opens_beside_it_what_it_says() -> None:
    spec = {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": ALLOWED}
    found = verdicts(clusterwide({"app": "web"}, ingress=[{}]), objects.policy("web", spec))
    assert found["shop/web-0"] == OPEN
    assert found["other/web-1"] == NO_INGRESS


def test_it_is_told_what_is_not_read_and_what_to_write() -> None:
    compiler = Compiler()
    thing = clusterwide({"app": "web"}, ingress=ALLOWED)
    compiler.apply(objects.added([*PODS, thing]))
    assert [str(one) for one in problems_of(compiler.db, thing)] == [
        (
            "kind: policies for the whole cluster are not supported yet; "
            "write a CiliumNetworkPolicy in each namespace that it is for"
        ),
        "spec: not enforced as written: ingress of what it selects is closed; mend the errors",
    ]
