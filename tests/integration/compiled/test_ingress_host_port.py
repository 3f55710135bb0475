"""An Ingress at a port of the nodes, in a real Envoy."""

from __future__ import annotations

import pytest

from support import objects
from support.compiled_envoy import NODE, Surroundings, compiled_envoy
from support.http_backend import http_backend
from support.ingress_objects import CILIUM, ingress, ingress_class, path, rule
from support.pool_cluster import AT_NODES, cluster, compiled


async def test_it_answers_at_that_port(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked = {CILIUM + "loadbalancer-mode": "dedicated", CILIUM + "host-listener-port": "9090"}
    things = cluster(
        ingress_class(),
        objects.service("one", "10.96.0.1"),
        objects.endpoint_slice("one", ["10.244.0.1"]),
        ingress("web", rule("a.test", path()), annotations=asked),
    )
    async with http_backend("one") as one, compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        around = Surroundings(endpoints={"10.244.0.1": one})
        await envoy.run(compiled(things, AT_NODES).resources(NODE), around)
        answer = await envoy.ask("gateway/~ingress/shop~web/9090")
        assert (answer.status, '"one"' in answer.body) == (200, True)
        other = await envoy.ask("gateway/~ingress/shop~web/9090", host="b.test")
        assert other.status == 404
