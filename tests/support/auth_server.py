"""A server that is asked whether requests may pass, by HTTP and by Envoy's gRPC protocol."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
from aiohttp import web

from penstock.pb.envoy.service.auth.v3 import external_auth_pb2
from penstock.pb.envoy.type.v3 import http_status_pb2
from support.http_backend import Place, serving


class AuthServer:
    """Lets pass what has the token; notes what it is asked."""

    def __init__(self) -> None:
        self.http: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.grpc: list[external_auth_pb2.CheckRequest] = []
        self.by_grpc = {"x-user": "ben", "x-penstock-scope": "elsewhere"}
        """Headers that requests get, asked by gRPC."""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer by HTTP; the token is in `authorization`."""
        self.http.append(request)
        self.bodies.append(await request.read())
        if request.headers.get("authorization") == "let-me":
            headers = {"x-user": "ann", "x-other": "seen", "x-penstock-scope": "elsewhere"}
            return web.Response(headers=headers, text="five!")
        return web.Response(status=401, headers={"www-authenticate": "Basic"}, text="who?")

    async def check(self, request: bytes, _: Any) -> bytes:
        """Answer by gRPC; the token is in `x-shown`."""
        asked = external_auth_pb2.CheckRequest.FromString(request)
        self.grpc.append(asked)
        answer = external_auth_pb2.CheckResponse()
        if asked.attributes.request.http.headers.get("x-shown") != "let-me":
            answer.status.code = 7
            answer.denied_response.status.code = http_status_pb2.PaymentRequired
            answer.denied_response.body = "pay"
            return answer.SerializeToString()
        for name, value in self.by_grpc.items():
            header = answer.ok_response.headers.add().header
            header.key, header.value = name, value
        return answer.SerializeToString()


@contextlib.asynccontextmanager
async def auth_server(made: AuthServer) -> AsyncGenerator[tuple[Place, Place]]:
    """Run *made*; yield where it is asked by HTTP, and where by gRPC."""
    server = grpc.aio.server()
    check: Any = grpc.unary_unary_rpc_method_handler(made.check)
    service = "envoy.service.auth.v3.Authorization"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"Check": check}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    async with serving(made.answer) as by_http:
        await server.start()
        try:
            yield by_http, ("127.0.0.1", port)
        finally:
            await server.stop(0)
