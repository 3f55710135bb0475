"""Statuses in a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from penstock.compiler.compile import KINDS
from penstock.compiler.settings import Settings
from penstock.controlplane.status_feed import StatusFeed
from penstock.controlplane.world import World
from penstock.gatewayapi.status import CONTROLLER_NAME
from penstock.runtime.clock import SystemClock
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.kubernetes.status_writer import StatusWriter
from penstock.status.lease import Terms
from support.kube import KubeApi, path_of
from support.source_suite import eventually

QUICK = Terms(duration=2.0, deadline=1.4, renew=0.3, answer=0.5)
GATEWAY_API = "gateway.networking.k8s.io/v1"
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "penstock-status", "namespace": "kube-system"},
}


class Replica:
    """What a controller has for statuses, over the real server."""

    def __init__(self, api: KubeApi, name: str, port: int = 0) -> None:
        access = api.access_at(port or api.port)
        clock = SystemClock()
        self.world = World(Settings())
        self._source = KubernetesSource(api.access, KINDS, clock, random.random)
        self._feed = StatusFeed(self.world, clock)
        self.writer = StatusWriter(
            access,
            clock,
            random.random,
            self._feed.statuses,
            identity=name,
            namespace="kube-system",
            terms=QUICK,
            environment={},
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        work = (self._source.run(self.world.take), self._feed.run(self.writer))
        self._tasks = [asyncio.create_task(one) for one in work]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def replica(api: KubeApi, name: str = "one", port: int = 0) -> AsyncGenerator[Replica]:
    made = Replica(api, name, port)
    made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
def objects(api: KubeApi) -> list[dict[str, Any]]:
    """Make a Gateway of ours with a route, and a policy; return them."""
    api.namespace("status")
    made = [
        gateway_class(),
        gateway(),
        route(),
        policy({"endpointSelector": {}, "ingress": [{}]}),
    ]
    for raw in made:
        api.delete(raw)
    api.delete(LEASE)
    for raw in made:
        api.apply(raw)
    return made


def gateway_class() -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": "status"},
        "spec": {"controllerName": CONTROLLER_NAME},
    }


def gateway() -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "status"},
        "spec": {
            "gatewayClassName": "status",
            "listeners": [{"name": "web", "port": 80, "protocol": "HTTP"}],
        },
    }


def route(*parents: dict[str, Any], port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "status"},
        "spec": {
            "parentRefs": list(parents) or [{"name": "g", "sectionName": "web"}],
            "rules": [{"backendRefs": [{"name": "b", "port": port}]}],
        },
    }


def policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "status"},
        "spec": spec,
    }


def get(api: KubeApi, raw: dict[str, Any]) -> dict[str, Any]:
    status, said = api.request("GET", path_of(raw))
    assert status == 200, said
    return dict(said)


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status.get("conditions", [])}


def put_status(api: KubeApi, raw: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    """Write a status as another controller would."""
    while True:
        now = get(api, raw)
        change(now.setdefault("status", {}))
        status, said = api.request("PUT", f"{path_of(raw)}/status", now)
        if status != 409:
            assert status == 200, said
            return


async def settled(api: KubeApi, *raws: dict[str, Any]) -> None:
    """Wait until all objects say what we have to say of their present generation."""

    def said() -> bool:
        return all(is_current(get(api, raw)) for raw in raws)

    await eventually(said)


def is_current(thing: dict[str, Any]) -> bool:
    generation, status = thing["metadata"]["generation"], thing.get("status", {})
    found = [*status.get("conditions", [])]
    for one in status.get("parents", []):
        found += one["conditions"] if one["controllerName"] == CONTROLLER_NAME else []
    mine = [one for one in found if one["type"] in ("Accepted", "Programmed", "Valid")]
    return bool(mine) and all(one.get("observedGeneration") == generation for one in mine)


async def test_conditions_appear(api: KubeApi, objects: list[dict[str, Any]]) -> None:
    async with replica(api):
        await settled(api, *objects)
        the_class, the_gateway, the_route, the_policy = (get(api, raw) for raw in objects)
        assert conditions(the_class["status"]) == {"Accepted": "True"}
        assert conditions(the_gateway["status"])["Accepted"] == "True"
        assert the_gateway["status"]["addresses"][0]["type"] == "IPAddress"
        (listener,) = the_gateway["status"]["listeners"]
        assert (listener["name"], listener["attachedRoutes"]) == ("web", 1)
        (parent,) = the_route["status"]["parents"]
        assert parent["parentRef"] == the_route["spec"]["parentRefs"][0]
        assert conditions(parent) == {"Accepted": "True", "ResolvedRefs": "False"}
        assert conditions(the_policy["status"]) == {"Valid": "True"}
