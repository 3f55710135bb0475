"""An address stands for one Service or one pod, whatever the order in which they came."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import types
from support import objects


def _compiled(things: list[Object | Broken]) -> Compiler:
    compiler = Compiler()
    compiler.apply(objects.added(things))
    assert compiler.failures == {}
    return compiler


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_services_with_one_address_the_first_by_name_has_it(order: int) -> None:
    things = [objects.service("b", "10.96.0.1"), objects.service("a", "10.96.0.1")]
    compiler = _compiled(things[::order])
    names = [r.name for r in compiler.resources("n1") if r.type_url == types.SERVICE]
    assert names == ["shop/a/80/tcp"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_pods_with_one_address_the_first_by_uid_has_it(order: int) -> None:
    things = [objects.pod(name, "10.244.0.1", {"app": name}) for name in ("b", "a")]
    compiler = _compiled(things[::order])
    found = {
        r.name: list(node_pb2.Workload.FromString(r.body).addresses)
        for r in compiler.resources("n1")
        if r.type_url == types.WORKLOAD
    }
    assert found == {"uid-Pod/shop/a": ["10.244.0.1"], "uid-Pod/shop/b": []}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_has_no_address_any_more(phase: str) -> None:
    running = objects.pod("p", "10.244.0.1", {"app": "p"})
    assert isinstance(running, Object)
    ended = objects.made(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "shop"},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "app"}]},
            "status": {"podIPs": [{"ip": "10.244.0.1"}], "phase": phase},
        }
    )
    kinds = {r.type_url for r in _compiled([running]).resources("n1")}
    assert types.WORKLOAD in kinds
    kinds = {r.type_url for r in _compiled([ended]).resources("n1")}
    assert types.WORKLOAD not in kinds
