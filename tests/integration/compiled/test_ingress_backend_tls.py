"""What `backend-protocol` and `proxy-ssl-*` of an Ingress do to connections of a real Envoy."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.core.objects import Broken, Object
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.http_backend import http_backend
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, made, service
from support.pki import Issued, issue, server_context, tls_secret_raw
from support.streams import tls as policy

PLAIN = "gateway/~ingress/penstock~/80"
NAME = "one.shop.svc"
CHECKED = {
    "backend_protocol": "HTTPS",
    "proxy_ssl_verify": "on",
    "proxy_ssl_secret": "shop/ca",
}


def secret(name: str, authority: Issued | None, shown: Issued | None = None) -> Object | Broken:
    """Return a Secret with an authority to believe, and a certificate to show."""
    found = tls_secret_raw(name, "shop", [shown]) if shown is not None else None
    if found is None:
        meta = {"name": name, "namespace": "shop"}
        found = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque"}
    pem = {} if authority is None else {"ca.crt": authority.pem}
    return made(found | {"stringData": pem})


class Lab:
    """Two Services, of which the first speaks TLS."""

    def __init__(self, envoy: CompiledEnvoy, authority: Issued, around: Surroundings) -> None:
        self.envoy, self.authority, self.around = envoy, authority, around
        self.asked_for: list[str | None] = []
        self.problems: list[str] = []

    async def show(self, *beside: Object | Broken, **annotations: str) -> None:
        given = {NGINX + name.replace("_", "-"): value for name, value in annotations.items()}
        compiler = Compiler()
        secure = ingress("secure", rule("a.test", path()), annotations=given)
        plain = ingress("plain", rule("b.test", path("/", to=backend("two"))))
        world = [
            ingress_class(),
            *(service(name, f"10.96.1.{n}") for n, name in enumerate(("one", "two"), 1)),
            *(endpoint_slice(name, [f"10.244.0.{n}"]) for n, name in enumerate(("one", "two"), 1)),
        ]
        compiler.apply(added([*world, secure, plain, *beside]))
        assert compiler.failures == {}
        self.problems = [one.path for one in problems_of(compiler.db, secure)]
        await self.envoy.run(compiler.resources("n1"), self.around)
        assert (await self.envoy.ask(PLAIN, host="b.test")).status == 200

    async def status(self) -> int:
        return (await self.envoy.ask(PLAIN)).status


@pytest_asyncio.fixture
async def lab(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    authority = issue("authority")
    context = server_context(issue(NAME, "other.test", by=authority), tmp_path)
    async with (
        http_backend("one", context=context) as one,
        http_backend("two") as two,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        around = Surroundings(endpoints={"10.244.0.1": one, "10.244.0.2": two})
        found = Lab(envoy, authority, around)
        context.sni_callback = lambda _socket, name, _context: found.asked_for.append(name)
        yield found


async def test_by_itself_any_certificate_is_believed_and_that_is_told(lab: Lab) -> None:
    await lab.show()
    assert await lab.status() in {400, 502, 503}  # plain requests to a server of TLS
    await lab.show(backend_protocol="HTTPS")
    assert await lab.status() == 200
    assert lab.asked_for == [None]
    assert lab.problems == [f'metadata.annotations["{NGINX}backend-protocol"]']


async def test_a_certificate_is_looked_at_where_that_is_asked_for(lab: Lab) -> None:
    good, strange = secret("ca", lab.authority), secret("ca", issue("authority"))
    await lab.show(good, **CHECKED)
    assert (await lab.status(), lab.problems) == (200, [])
    await lab.show(good, **CHECKED, proxy_ssl_name="other.test", proxy_ssl_server_name="on")
    assert await lab.status() == 200
    assert lab.asked_for[-1] == "other.test"
    await lab.show(good, **CHECKED, proxy_ssl_name="third.test")
    assert await lab.status() == 503
    await lab.show(strange, **CHECKED)
    assert await lab.status() == 503


async def test_without_what_is_to_be_believed_nobody_is_connected_to(lab: Lab) -> None:
    place = f'metadata.annotations["{NGINX}proxy-ssl-secret"]'
    await lab.show(**CHECKED)
    assert (await lab.status(), lab.problems) == (503, [place])
    empty = secret("ca", None)
    await lab.show(empty, **CHECKED)
    assert (await lab.status(), lab.problems) == (503, [place])
    await lab.show(backend_protocol="HTTPS", proxy_ssl_verify="on")
    assert await lab.status() == 500


async def test_a_policy_goes_before_annotations(lab: Lab) -> None:
    # It asks for one.internal, which is not the server's name.
    await lab.show(*policy("one", lab.authority), backend_protocol="HTTPS")
    assert await lab.status() == 503


async def test_a_server_is_shown_the_certificate_of_the_secret(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = issue("authority")
    context = server_context(issue(NAME, by=authority), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    async with (
        http_backend("one", context=context) as one,
        http_backend("two") as two,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        around = Surroundings(endpoints={"10.244.0.1": one, "10.244.0.2": two})
        lab = Lab(envoy, authority, around)
        await lab.show(backend_protocol="HTTPS")
        assert await lab.status() == 503
        shown = secret("client", authority, issue("client.test", by=authority))
        asked = {"backend_protocol": "HTTPS", "proxy_ssl_secret": "shop/client"}
        await lab.show(shown, **asked)
        assert await lab.status() == 200
        await lab.show(shown, **asked, proxy_ssl_verify="on")
        assert await lab.status() == 200


async def _server(own: Issued | None) -> tuple[grpc.aio.Server, Place]:
    """Start a server of gRPC, with TLS if it has a certificate."""
    server = grpc.aio.server()

    async def add(request: bytes, _: Any) -> bytes:
        return request + b" here"

    handlers: dict[str, Any] = {"Add": grpc.unary_unary_rpc_method_handler(add)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", handlers),))
    if own is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (own.key_pem.encode(), own.pem.encode())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    return server, ("127.0.0.1", port)


@pytest.mark.parametrize("protocol", ["GRPC", "GRPCS"])
async def test_calls_of_grpc_need_nothing_but_the_annotation(
    protocol: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server, place = await _server(issue(NAME) if protocol == "GRPCS" else None)
    try:
        async with (
            http_backend("two") as two,
            compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
        ):
            around = Surroundings(endpoints={"10.244.0.1": place, "10.244.0.2": two})
            lab = Lab(envoy, issue("authority"), around)
            await lab.show(backend_protocol=protocol)
            target = f"unix:{envoy.folder / socket_name(PLAIN)}"
            options = (("grpc.default_authority", "a.test"),)
            async with grpc.aio.insecure_channel(target, options=options) as channel:
                ask: Any = channel.unary_unary("/shop.Cart/Add")
                assert await ask(b"called") == b"called here"
    finally:
        await server.stop(0)
