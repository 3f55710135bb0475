"""A collector of traces: takes OTLP by gRPC and by HTTP and keeps the spans."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import msgspec
from aiohttp import web

from penstock.pb.opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from penstock.pb.opentelemetry.proto.common.v1 import common_pb2
from support.compiled_envoy import Place
from support.real_envoy import eventually

SERVER, CLIENT = 2, 3
"""Kinds of spans."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One span with what came along with it."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: Mapping[str, str | int]
    resource: Mapping[str, str | int]
    headers: Mapping[str, str]
    """Of the export, names in lower case."""


class Collector:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.grpc: Place = ("", 0)
        self.http: Place = ("", 0)

    async def of_path(self, path: str, kind: int = SERVER) -> Span:
        """Return the span of the one request for *path*, as soon as it is there."""
        (found,) = await self.until(lambda: self.seen(path, kind))
        return found

    def seen(self, path: str, kind: int = SERVER) -> list[Span]:
        return [
            one for one in self.spans if one.kind == kind and one.attributes.get("url.path") == path
        ]

    async def until(self, found: Callable[[], list[Span]]) -> list[Span]:
        await eventually(lambda: bool(found()))
        return found()

    def take(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            of_all = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    made = Span(
                        name=span.name,
                        kind=span.kind,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        attributes=_attributes(span.attributes),
                        resource=of_all,
                        headers=headers,
                    )
                    self.spans.append(made)
        return trace_service_pb2.ExportTraceServiceResponse().SerializeToString()

    async def by_grpc(self, request: bytes, context: Any) -> bytes:
        return self.take(request, dict(context.invocation_metadata()))

    async def by_http(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = self.take(await request.read(), headers)
        return web.Response(body=answer, content_type="application/x-protobuf")


def _attributes(given: Any) -> dict[str, str | int]:
    return {one.key: _value(one.value) for one in given}


def _value(value: common_pb2.AnyValue) -> str | int:
    return value.int_value if value.WhichOneof("value") == "int_value" else value.string_value


@contextlib.asynccontextmanager
async def collector() -> AsyncGenerator[Collector]:
    """Run a collector on two ports of the loopback."""
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.by_http)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    server = grpc.aio.server()
    export: Any = grpc.unary_unary_rpc_method_handler(made.by_grpc)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    handler = grpc.method_handlers_generic_handler(service, {"Export": export})
    server.add_generic_rpc_handlers((handler,))
    made.grpc = ("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.http = (runner.addresses[0][0], runner.addresses[0][1])
        yield made
    finally:
        await server.stop(0)
        await runner.cleanup()
