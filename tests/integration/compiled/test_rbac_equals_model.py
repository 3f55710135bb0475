"""Envoy's RBAC filter gives the verdicts of the model, for whatever judgement and request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.envoy import cluster as clusters
from penstock.envoy import listener as listeners
from penstock.envoy import rbac
from penstock.envoy.cluster import Protocol, Role
from penstock.envoy.endpoint import load_assignment
from penstock.envoy.route import virtual_host
from penstock.envoy.scope import egress_key, scope
from penstock.envoy.wire import type_url
from penstock.ir.policy import Direction, HeaderRule, HttpAllow, HttpPort, HttpRule
from penstock.ir.route import Forward, Route, RouteMatch, ServiceBackend, ServicePort, VirtualHost
from penstock.meta.listeners import egress_name
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.policy.judge import HttpRequest, by_rules
from penstock.xds.resource import Resource, make_resource
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend

T = TypeVar("T")

PORT = 8080
PEERS = (70001, 70002, 70003)
TARGET = ServicePort(NamespacedName("shop", "orders"), 80)
ORIGIN = Origin(ObjectRef("CiliumNetworkPolicy", "shop", "p"), "spec.ingress[0]")
SERVER = "10.244.0.1"

texts = st.sampled_from(["", "/a", "/a.*", "/a/[0-9]+", "/(a|b)", "/b?", "/.*x=1", "/A", "/a\\.b"])
methods = st.sampled_from(["", "GET", "POST", "GET|POST", "P.*", "GE"])
hosts = st.sampled_from(["", "a.test", "b.test:80", ".*\\.test", "a.tes."])
headers = st.sampled_from(
    [
        HeaderRule(name="x-one"),
        HeaderRule(name="x-one", value="1"),
        HeaderRule(name="x-one", value="1,2"),
        HeaderRule(name="x-two", value=""),
        HeaderRule(name=":method", value="GET"),
        HeaderRule(name=":authority"),
    ]
)
rules = st.builds(
    HttpRule,
    path=texts,
    method=methods,
    host=hosts,
    headers=st.lists(headers, max_size=2).map(tuple),
    origin=st.just(ORIGIN),
)
peers = st.sampled_from(PEERS)
allows = st.builds(
    HttpAllow,
    peers=st.none() | st.frozensets(peers),
    rules=st.lists(rules, max_size=2).map(tuple),
    origin=st.just(ORIGIN),
)
judgements = st.builds(
    HttpPort,
    direction=st.just(Direction.INGRESS),
    port=st.just(PORT),
    allows=st.lists(allows, max_size=3).map(tuple),
    denied=st.frozensets(peers, max_size=2) | st.none(),
)
requests = st.tuples(
    peers,
    st.builds(
        HttpRequest,
        method=st.sampled_from(["GET", "POST", "PUT"]),
        path=st.sampled_from(["/a", "/a/", "/a/7", "/b", "/", "/ab?x=1", "/a.b", "/azb"]),
        host=st.sampled_from(["a.test", "b.test", "b.test:80"]),
        headers=st.dictionaries(
            st.sampled_from(["x-one", "x-two"]), st.sampled_from(["1", "1,2", "2"])
        ),
    ),
)


class Rig:
    """An Envoy with a listener for each peer, on an event loop in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stop = asyncio.Event()
        ready: asyncio.Future[tuple[CompiledEnvoy, Place]] = self._loop.create_future()
        self._running = asyncio.run_coroutine_threadsafe(self._run(folder, ready), self._loop)
        self.envoy, server = self.call(_result(ready))
        self._around = Surroundings(endpoints={SERVER: server})

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._running.result(timeout=60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def verdicts(
        self, port: HttpPort, asked: Sequence[tuple[int, HttpRequest]]
    ) -> list[bool]:
        """Put *port* in force and return whether each request passes."""
        await self.envoy.run([*_fixed(), _ingress_rules(port)], self._around)
        return [await self._passes(peer, request) for peer, request in asked]

    async def _passes(self, peer: int, request: HttpRequest) -> bool:
        answer = await self.envoy.ask(
            egress_name(str(peer)), request.path,
            host=request.host, method=request.method, headers=request.headers,
        )  # fmt: skip
        assert answer.status in (200, 403)
        return answer.status == 200

    async def _run(self, folder: Path, ready: asyncio.Future[tuple[CompiledEnvoy, Place]]) -> None:
        async with http_backend("server") as server, compiled_envoy(folder) as envoy:
            ready.set_result((envoy, server))
            await self._stop.wait()


async def _result(future: asyncio.Future[T]) -> T:
    return await future


def _resource(name: str, message: Any) -> Resource:
    return make_resource(type_url(type(message)), name, message.SerializeToString())


def _fixed() -> list[Resource]:
    """Return what does not depend on the judgement: one cluster, and a way to it for each peer."""
    cluster = clusters.policed(Role.MESH, TARGET, Protocol.SAME, node_netns="netns/node")
    anybody = HttpAllow(peers=None, rules=(), origin=ORIGIN)
    egress = (rbac.Judgement(name="any", allow=anybody),)
    egress_rules = clusters.egress_rules_name(TARGET)
    made = [
        _resource(cluster.name, cluster),
        _resource(cluster.name, load_assignment(cluster.name, [(SERVER, PORT)])),
        _resource(egress_rules, rbac.ecds(egress_rules, egress, Direction.EGRESS)),
    ]
    action = Forward(backends=(ServiceBackend(target=TARGET, origin=ORIGIN),))
    route = Route(name="r", match=RouteMatch(), action=action, origin=ORIGIN)
    host = virtual_host(
        VirtualHost(hostname="*", routes=(route,)), lambda _: cluster.name, runtime_weights=True
    )
    for peer in PEERS:
        listener = listeners.egress(str(peer), peer, "shop")
        key = egress_key(socket_name(listener.name))
        made += [_resource(listener.name, listener), _resource(key, scope(key, [host]))]
    return made


def _ingress_rules(port: HttpPort) -> Resource:
    """Return the upstream filter, made of a judgement as the compiler does."""
    name = clusters.ingress_rules_name(TARGET)
    found = tuple(
        rbac.Judgement(name=str(allow.origin), allow=allow, denied=port.denied or frozenset())
        for allow in (port.allows if port.denied is not None else ())
    )
    return _resource(name, rbac.ecds(name, found, Direction.INGRESS))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rig]:
    made = Rig(tmp_path_factory.mktemp("e"))
    try:
        yield made
    finally:
        made.stop()


@given(judgements, st.lists(requests, min_size=4, max_size=8))
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_filter_agrees_with_the_model(
    rig: Rig, port: HttpPort, asked: list[tuple[int, HttpRequest]]
) -> None:
    expected = [by_rules(port, peer, request)[0] for peer, request in asked]
    assert rig.call(rig.verdicts(port, asked)) == expected
