"""Traces of what Gateways are asked, with a real Envoy and a real collector."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from penstock.compiler.compile import Compiler
from penstock.controlplane.kinds import known_kinds
from penstock.core.events import Event, EventType
from penstock.ir.tracing import KEYS
from penstock.sources.file import load
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.otlp import CLIENT, Collector, Span, collector
from support.raw_http import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"
USUAL = (
    "client.address", "error.type", "http.request.method", "http.response.status_code",
    "http.route", "network.protocol.version", "penstock.route", "server.address", "server.port",
    "url.path", "url.query", "url.scheme", "user_agent.original",
)  # fmt: skip
SAMPLED = "00-0af7651916cd43dd8448eb211c80{}-b7ad6b7169203331-01"
Json = dict[str, Any]

OBJECTS = """\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: penstock}
spec: {controllerName: penstock.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  gatewayClassName: penstock
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.1]}]
---
apiVersion: v1
kind: Service
metadata: {name: otel, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: grpc, port: 4317}, {name: http, port: 4318}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: otel, namespace: shop, labels: {kubernetes.io/service-name: otel}}
addressType: IPv4
ports: [{name: grpc, port: 4317}, {name: http, port: 4318}]
endpoints: [{addresses: [10.244.0.2]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: front}]
  rules:
    - matches: [{path: {value: /cart}}]
      filters:
        - type: URLRewrite
          urlRewrite: {hostname: elsewhere.test, path: {type: ReplaceFullPath, replaceFullPath: /x}}
      backendRefs: [{name: web, port: 80}]
    - matches: [{path: {value: /lost}}]
      backendRefs: [{name: nowhere, port: 80}]
    - backendRefs: [{name: web, port: 80}]
"""
TARGET = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "front"}


class Lab:
    def __init__(self, envoy: CompiledEnvoy, collector_: Collector) -> None:
        self.envoy = envoy
        self.collector = collector_
        self.served: list[Mapping[str, str]] = []
        self.endpoints: dict[str, Place] = {}
        self.asked = 0

    async def application(self, request: web.Request) -> web.Response:
        self.served.append(dict(request.headers))
        status = 500 if request.path == "/fails" else 200
        return web.Response(status=status, text="here", headers={"x-answer": "yes"})

    async def trace(self, port: int = 4317, **tracing: Any) -> None:
        """Let the Gateway tell the collector at *port*, or nobody at port 0."""
        provider: Json = {"backendRef": {"name": "otel", "port": port}}
        if "headers" in tracing:
            provider["headers"] = tracing.pop("headers")
        documents = list(yaml.safe_load_all(OBJECTS))
        if port:
            spec: Json = {"targetRefs": [TARGET], "tracing": {"mode": "Enabled", **tracing}}
            spec["tracing"]["provider"] = provider
            documents.append(
                {
                    "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
                    "kind": "XTelemetryPolicy",
                    "metadata": {"name": "traces", "namespace": "shop"},
                    "spec": spec,
                }
            )
        file = self.envoy.folder / "objects.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        compiler = Compiler()
        loaded = load([file], known_kinds()).objects
        compiler.apply([Event(EventType.ADDED, one) for one in loaded])
        assert compiler.failures == {}
        await self.envoy.run(compiler.resources(""), Surroundings(endpoints=self.endpoints))

    async def ask(self, path: str, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.envoy.ask(FRONT, path, host="a.test:80", headers=named)

    async def told(self, path: str, **headers: str) -> Span | None:
        """Return the span of a request, None if the next one that is told comes without it."""
        assert (await self.ask(path, **headers)).status == 200
        self.asked += 1
        mark = f"/told/{self.asked}"
        assert (await self.ask(mark)).status == 200
        await self.collector.of_path(mark)
        return next(iter(self.collector.seen(path)), None)


async def _serving(handler: Any) -> tuple[web.AppRunner, Place]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, (runner.addresses[0][0], runner.addresses[0][1])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy, collector() as otel:
        made = Lab(envoy, otel)
        runner, place = await _serving(made.application)
        made.endpoints = {
            "10.244.0.1": place, "10.244.0.2:4317": otel.grpc, "10.244.0.2:4318": otel.http,
        }  # fmt: skip
        try:
            yield made
        finally:
            await runner.cleanup()


async def test_a_request_is_told_with_its_attributes_and_its_attempt_below_it(lab: Lab) -> None:
    await lab.trace()
    answer = await lab.ask("/cart/1?q=a", user_agent="me", x_envoy_decorator_operation="mine")
    assert (answer.status, answer.header("x-route")) == (200, "shop/web/0/0")
    span = await lab.collector.of_path("/cart/1")
    assert (span.name, span.failed, span.parent_id) == ("GET /cart/*", False, "")
    told = {name: span.attributes.get(name) for name in USUAL}
    assert told == {
        "client.address": "gateway_shop_front_80.0",
        "error.type": None,
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/cart/*",
        "network.protocol.version": "1.1",
        "penstock.route": "shop/web/0/0",
        "server.address": "a.test",
        "server.port": 80,
        "url.path": "/cart/1",
        "url.query": "q=a",
        "url.scheme": "http",
        "user_agent.original": "me",
    }
    assert span.resource["service.name"] == "front"
    assert span.resource["service.namespace"] == "shop"
    assert span.resource["penstock.gateway"] == "shop/front"
    attempt = await lab.collector.of_path("/cart/1", CLIENT)
    assert (attempt.trace_id, attempt.parent_id) == (span.trace_id, span.span_id)
    assert attempt.name == "GET gw|shop/web/80"
    assert lab.served[-1]["traceparent"] == f"00-{span.trace_id}-{attempt.span_id}-01"


async def test_errors_are_told_as_such(lab: Lab) -> None:
    await lab.trace()
    assert (await lab.ask("/fails")).status == 500
    assert (await lab.ask("/lost/x")).status == 500
    for path in ("/fails", "/lost/x"):
        span = await lab.collector.of_path(path)
        assert (span.failed, span.attributes["error.type"]) == (True, "500")
        assert span.attributes["http.response.status_code"] == 500


async def test_what_a_policy_asks_for_is_told_under_its_names(lab: Lab) -> None:
    attributes = [
        {"name": "env", "sourceType": "Literal", "literalValue": "50% off"},
        {"name": "tenant", "sourceType": "Header", "headerName": "X-Tenant"},
        {"name": "odd", "sourceType": "Header", "headerName": "x%odd"},
        {"name": "answer", "sourceType": "Header", "headerName": "X-Answer"},
        {"name": "absent", "sourceType": "Header", "headerName": "X-Absent"},
        {"name": "http.route", "sourceType": "Literal", "literalValue": "mine"},
        {"name": "unknown", "sourceType": "Attribute", "attributeKey": "gen_ai.tool.name"},
        *({"name": f"my.{k}", "sourceType": "Attribute", "attributeKey": k} for k in sorted(KEYS)),
        {"name": "in", "sourceType": "Attribute", "attributeKey": "http.request.header.x-tenant"},
        {"name": "out", "sourceType": "Attribute", "attributeKey": "http.response.header.x-answer"},
    ]
    await lab.trace(attributes=attributes, serviceName="storefront", spanName="at the front")
    assert (await lab.ask("/cart/2?b", x_tenant="ann", user_agent="me")).status == 200
    span = await lab.collector.of_path("/cart/2")
    assert (span.name, span.resource["service.name"]) == ("at the front", "storefront")
    got = {name: span.attributes.get(name) for name in (one["name"] for one in attributes)}
    assert got.pop("my.service.instance.id")
    of_socket = ("my.client.address", "my.network.peer.address")
    assert [got.pop(name) for name in of_socket] == ["gateway_shop_front_80.0"] * 2
    assert got == {
        "env": "50% off", "tenant": "ann", "odd": None, "answer": "yes", "absent": None,
        "http.route": "mine", "unknown": None, "in": "ann", "out": "yes",
        "my.client.port": None, "my.error.type": None,
        "my.http.request.method": "GET", "my.http.request.method_original": "GET",
        "my.http.response.status_code": 200, "my.http.route": "/cart/*",
 "my.network.peer.port": None,
        "my.network.protocol.name": "http", "my.network.protocol.version": "1.1",
        "my.network.transport": "tcp", "my.network.type": "ipv4",
        "my.server.address": "a.test", "my.server.port": 80, "my.service.name": "storefront",
        "my.service.namespace": "shop", "my.url.full": "http://a.test:80/cart/2?b",
        "my.url.path": "/cart/2", "my.url.query": "b", "my.url.scheme": "http",
        "my.user_agent.original": "me",
    }  # fmt: skip


@pytest.mark.parametrize("port", [4317, 4318])
async def test_the_collector_is_told_by_its_protocol_and_with_the_headers(
    lab: Lab, port: int
) -> None:
    headers = [
        {"name": "Authorization", "value": "Basic YTpi=="},
        {"name": "Host", "value": "evil"},
    ]
    await lab.trace(port, headers=headers)
    path = f"/by/{port}"
    assert (await lab.ask(path)).status == 200
    span = await lab.collector.of_path(path)
    assert span.headers["authorization"] == "Basic YTpi=="
    assert span.headers.get("host", "otel.shop") == "otel.shop"


async def test_of_no_share_nothing_is_told_unless_the_client_tells_it(lab: Lab) -> None:
    await lab.trace(samplingRate={"numerator": 0})
    assert (await lab.ask("/quiet", x_client_trace_id="1", x_envoy_force_trace="1")).status == 200
    assert lab.served[-1]["traceparent"].endswith("-00")
    kept = SAMPLED.format("319c")
    assert (await lab.ask("/kept", traceparent=kept)).status == 200
    span = await lab.collector.of_path("/kept")
    assert span.trace_id in kept
    assert span.parent_id in kept
    assert lab.collector.seen("/quiet") == []


async def test_what_the_client_does_not_tell_is_not_told(lab: Lab) -> None:
    await lab.trace()
    assert await lab.told("/untold", traceparent=SAMPLED.format("319c")[:-1] + "0") is None


async def test_where_clients_do_not_decide_the_share_does(lab: Lab) -> None:
    await lab.trace(parentBasedSampling={"mode": "Disabled"})
    unsampled = SAMPLED.format("319c")[:-1] + "0"
    span = await lab.told("/regardless", traceparent=unsampled)
    assert span is not None
    assert span.trace_id in unsampled


async def test_of_what_clients_tell_a_share_can_be_told(lab: Lab) -> None:
    half = {"mode": "Enabled", "samplingRate": {"numerator": 1, "denominator": 2}}
    await lab.trace(parentBasedSampling=half)
    assert await lab.told("/low", traceparent=SAMPLED.format("7fff")) is not None
    assert await lab.told("/high", traceparent=SAMPLED.format("8000")) is None
    assert await lab.told("/own") is not None
    assert await lab.told("/none", traceparent=SAMPLED.format("7fff")[:-1] + "0") is None
    await lab.ask("/odd", traceparent="odd")
    assert lab.served[-1]["traceparent"] == "odd"
    assert (await lab.ask("/high2", traceparent=SAMPLED.format("ffff"))).status == 200
    assert lab.served[-1]["traceparent"].endswith("-00")


async def test_of_no_share_of_what_clients_tell_nothing_is_told(lab: Lab) -> None:
    nothing = {"mode": "Enabled", "samplingRate": {"numerator": 0}}
    await lab.trace(parentBasedSampling=nothing)
    assert await lab.told("/zero", traceparent=SAMPLED.format("0000")) is None


@pytest.mark.parametrize("port", [4317, 4318])
async def test_a_collector_that_is_away_costs_no_request(lab: Lab, port: int) -> None:
    present = dict(lab.endpoints)
    lab.endpoints[f"10.244.0.2:{port}"] = ("127.0.0.1", 1)
    try:
        await lab.trace(port)
        answers = [await lab.ask(f"/away/{port}") for _ in range(300)]
        assert {one.status for one in answers} == {200}
    finally:
        lab.endpoints = present
    await lab.trace(port)
    assert await lab.told(f"/back/{port}") is not None


async def test_without_a_policy_nothing_is_told(lab: Lab) -> None:
    await lab.trace()
    assert await lab.told("/before") is not None
    await lab.trace(0)
    assert (await lab.ask("/after")).status == 200
    assert "traceparent" not in {name.lower() for name in lab.served[-1]}
    await lab.trace()
    assert await lab.told("/again") is not None
    assert lab.collector.seen("/after") == []
