"""GRPCRoutes to servers of gRPC that speak TLS, in a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects, streams
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.pki import Issued, issue, tls_secret_raw

FRONT = "gateway/shop/front/80"
NAME = "cart.internal"


@pytest_asyncio.fixture
async def envoy(tmp_path: Path) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path / "e") as made:
        yield made


async def _serve(own: Issued, clients: Issued | None) -> tuple[grpc.aio.Server, Place]:
    """Start a server of gRPC with TLS; *clients* has issued the certificates that it wants."""
    server = grpc.aio.server()

    async def add(request: bytes, context: Any) -> bytes:
        shown: bytes = context.auth_context().get("x509_common_name", [b"nobody"])[0]
        return request + b" from " + shown

    handlers: dict[str, Any] = {"Add": grpc.unary_unary_rpc_method_handler(add)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", handlers),))
    credentials = grpc.ssl_server_credentials(
        [(own.key_pem.encode(), own.pem.encode())],
        root_certificates=None if clients is None else clients.pem.encode(),
        require_client_auth=clients is not None,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    return server, ("127.0.0.1", port)


def _world(authority: Issued, shown: Issued | None) -> list[Object | Broken]:
    spec: dict[str, Any] = {
        "gatewayClassName": "penstock",
        "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
    }
    route = {
        "parentRefs": [{"name": "front"}],
        "rules": [{"backendRefs": [{"name": "cart", "port": 80}]}],
    }
    secrets: list[dict[str, Any]] = []
    if shown is not None:
        spec["tls"] = {"backend": {"clientCertificateRef": {"name": "client"}}}
        secrets.append(tls_secret_raw("client", "shop", [shown]))
    return [
        objects.gateway_class(),
        objects.gateway_api("Gateway", "front", spec),
        objects.service("cart", "10.96.0.1"),
        objects.endpoint_slice("cart", ["10.244.0.1"]),
        *streams.tls("cart", authority, NAME),
        objects.gateway_api("GRPCRoute", "cart", route),
        *map(objects.made, secrets),
    ]


async def _call(envoy: CompiledEnvoy, place: Place, world: list[Object | Broken]) -> bytes:
    compiler = Compiler()
    compiler.apply(objects.added(world))
    assert compiler.failures == {}
    await envoy.run(compiler.resources("n1"), Surroundings(endpoints={"10.244.0.1": place}))
    options = (("grpc.default_authority", "cart.test"),)
    target = f"unix:{envoy.folder / socket_name(FRONT)}"
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        ask: Any = channel.unary_unary("/shop.Cart/Add")
        answer: bytes = await ask(b"called")
        return answer


async def test_calls_reach_a_server_with_tls_by_its_name(envoy: CompiledEnvoy) -> None:
    authority = issue("authority")
    server, place = await _serve(issue(NAME, by=authority), None)
    try:
        assert await _call(envoy, place, _world(authority, None)) == b"called from nobody"
    finally:
        await server.stop(0)


async def test_a_server_of_a_stranger_is_unavailable(envoy: CompiledEnvoy) -> None:
    server, place = await _serve(issue(NAME, by=issue("authority")), None)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _call(envoy, place, _world(issue("stranger"), None))
    finally:
        await server.stop(0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_wants_a_certificate_is_shown_that_of_the_gateway(
    envoy: CompiledEnvoy,
) -> None:
    authority = issue("authority")
    shown = issue("gateway.shop", by=authority)
    server, place = await _serve(issue(NAME, by=authority), authority)
    try:
        assert await _call(envoy, place, _world(authority, shown)) == b"called from gateway.shop"
    finally:
        await server.stop(0)
