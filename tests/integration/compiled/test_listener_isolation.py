"""A request goes to the narrowest listener of its port, whatever hostnames routes of others have.

Source: Gateway API v1.7, Listener.hostname, and the suite's GatewayHTTPListenerIsolation.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend
from support.pki import issue, tls_secret_raw
from support.raw_http import Answer
from support.tls_client import client_context, tls_connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTENERS = {
    "any": None,
    "wide": "*.example.com",
    "narrow": "*.foo.example.com",
    "exact": "abc.foo.example.com",
}
OWNERS = {
    "bar.com": "any",
    "bar.example.com": "wide",
    "bar.foo.example.com": "narrow",
    "abc.foo.example.com": "exact",
}
HOSTNAMES = ["bar.com", "*.example.com", "*.foo.example.com", "abc.foo.example.com"]
CERTIFICATE = issue("*.example.com")


def _listener(name: str, hostname: str | None, protocol: str) -> dict[str, Any]:
    port = 443 if protocol == "HTTPS" else 80
    made: dict[str, Any] = {"name": name, "port": port, "protocol": protocol}
    if hostname is not None:
        made["hostname"] = hostname
    if protocol == "HTTPS":
        made["tls"] = {"certificateRefs": [{"name": "cert"}]}
    return made


def _world(protocol: str, hostnames: list[str]) -> list[Object | Broken]:
    listeners = [_listener(name, hostname, protocol) for name, hostname in LISTENERS.items()]
    return [
        objects.gateway_class(),
        objects.gateway("gw", listeners),
        objects.made(tls_secret_raw("cert", "shop", [CERTIFICATE])),
        objects.service("app", "10.96.0.1"),
        objects.endpoint_slice("app", ["10.244.0.1"]),
        *(
            objects.http_route(
                name,
                parent={"name": "gw", "sectionName": name},
                backends=[("app", 1)],
                hostnames=hostnames,
                path=f"/{name}",
            )
            for name in LISTENERS
        ),
    ]


class Lab:
    def __init__(self, envoy: CompiledEnvoy, around: Surroundings) -> None:
        self.envoy, self.around = envoy, around

    async def ask(self, protocol: str, host: str, path: str) -> Answer:
        if protocol == "HTTP":
            return await self.envoy.ask("gateway/shop/gw/80", path, host=host)
        at = self.envoy.folder / socket_name("gateway/shop/gw/443")
        async with tls_connection(at, host, client_context(("h2",))) as connection:
            return await connection.ask(host, path)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("app") as app,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        yield Lab(envoy, Surroundings(endpoints={"10.244.0.1": app}))


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
@pytest.mark.parametrize("hostnames", [[], HOSTNAMES], ids=["of listeners", "of routes too"])
async def test_only_the_narrowest_listener_answers(
    lab: Lab, protocol: str, hostnames: list[str]
) -> None:
    compiler = Compiler()
    compiler.apply(objects.added(_world(protocol, hostnames)))
    assert compiler.failures == {}
    await lab.envoy.run(compiler.resources(""), lab.around)
    for host, owner in OWNERS.items():
        for name in LISTENERS:
            status = (await lab.ask(protocol, host, f"/{name}")).status
            assert status == (200 if name == owner else 404), (host, name)
