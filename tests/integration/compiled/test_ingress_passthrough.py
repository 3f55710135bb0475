"""TLS that Ingresses pass on, beside TLS that they end, in a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend, seen
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, made, service
from support.pki import Issued, issue, server_context, tls_secret_raw
from support.raw_http import exchange
from support.tls_client import HandshakeRefusedError, tls_connection

SECURE, PLAIN = "gateway/~ingress/penstock~/443", "gateway/~ingress/penstock~/80"
PASSED = {"ingress.cilium.io/tls-passthrough": "enabled"}
LATER = "2026-02-01T00:00:00Z"


class Lab:
    """An application that ends TLS itself, and one that does not."""

    def __init__(self, envoy: CompiledEnvoy, own: Issued, around: Surroundings) -> None:
        self.envoy, self.own, self.around = envoy, own, around
        self.ended = issue("a.test", "*.a.test")

    async def show(self, *ingresses: Object | Broken) -> None:
        compiler = Compiler()
        world = [
            ingress_class(),
            *(service(name, f"10.96.1.{n}") for n, name in enumerate(("one", "two"), 1)),
            *(endpoint_slice(name, [f"10.244.0.{n}"]) for n, name in enumerate(("one", "two"), 1)),
            made(tls_secret_raw("cert", "shop", [self.ended])),
        ]
        compiler.apply(added([*world, *ingresses]))
        assert compiler.failures == {}
        await self.envoy.run(compiler.resources("n1"), self.around)

    async def answerer(self, host: str) -> tuple[str, str]:
        """Return who ends TLS for a server name, and which application answers."""
        at = self.envoy.folder / socket_name(SECURE)
        try:
            async with tls_connection(at, host) as connection:
                shown = {self.own.der: "application", self.ended.der: "entry"}
                answer = await connection.ask(host)
                found = seen(answer).name if answer.status == 200 else str(answer.status)
                return shown[connection.certificate], found
        except HandshakeRefusedError:
            return "", ""


@pytest_asyncio.fixture
async def lab(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    own = issue("x.a.test")
    async with (
        http_backend("secure", context=server_context(own, tmp_path)) as secure,
        http_backend("plain") as plain,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        yield Lab(envoy, own, Surroundings(endpoints={"10.244.0.1": secure, "10.244.0.2": plain}))


async def test_a_host_is_passed_on_beside_others_that_are_ended(lab: Lab) -> None:
    tls = [{"hosts": ["*.a.test", "a.test"], "secretName": "cert"}]
    to_two = path("/", to=backend("two"))
    await lab.show(
        ingress("passed", rule("x.a.test", path()), annotations=PASSED),
        ingress("ended", rule("*.a.test", to_two), rule("a.test", to_two), tls=tls),
    )
    assert await lab.answerer("x.a.test") == ("application", "secure")
    assert await lab.answerer("y.a.test") == ("entry", "plain")
    assert await lab.answerer("a.test") == ("entry", "plain")
    assert await lab.answerer("b.test") == ("", "")
    at = lab.envoy.folder / socket_name(PLAIN)
    answer = await exchange(at, b"GET /p?q=1 HTTP/1.1\r\nhost: x.a.test\r\n\r\n")
    assert (answer.status, answer.header("location")) == (308, "https://x.a.test/p?q=1")


async def test_the_older_of_two_ingresses_decides_who_ends_tls_of_a_host(lab: Lab) -> None:
    tls = [{"hosts": ["x.a.test"], "secretName": "cert"}]
    to_two = path("/", to=backend("two"))
    passed = {NGINX + "ssl-passthrough": "true"}
    await lab.show(
        ingress("passed", rule("x.a.test", path()), annotations=passed),
        ingress("ended", rule("x.a.test", to_two), tls=tls, created=LATER),
    )
    assert await lab.answerer("x.a.test") == ("application", "secure")
    await lab.show(
        ingress("passed", rule("x.a.test", path()), annotations=passed, created=LATER),
        ingress("ended", rule("x.a.test", to_two), tls=tls),
    )
    assert await lab.answerer("x.a.test") == ("entry", "plain")


async def test_what_cannot_be_passed_on_is_refused(lab: Lab) -> None:
    tls = [{"hosts": ["*.a.test"], "secretName": "cert"}]
    await lab.show(
        ingress("path", rule("x.a.test", path("/only")), annotations=PASSED),
        ingress(
            "guarded",
            rule("y.a.test", path()),
            annotations=PASSED | {NGINX + "whitelist-source-range": "10.0.0.0/8"},
        ),
        ingress("ended", rule("*.a.test", path("/", to=backend("two"))), tls=tls),
    )
    assert await lab.answerer("x.a.test") == ("", "")
    assert await lab.answerer("y.a.test") == ("", "")
    assert await lab.answerer("z.a.test") == ("entry", "plain")
