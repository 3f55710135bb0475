"""TLS from a Gateway to a real server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.http_backend import serving
from support.pki import Issued, issue, tls_secret_raw
from support.streams import tls
from support.tls_server import NAME, strict_server

FRONT = "gateway/shop/front/80"


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: Any) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as made:
        yield made


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncGenerator[tuple[Place, Issued, list[str | None]]]:
    """A server with a certificate; it notes the names that it is asked for."""
    authority, asked = issue("authority"), list[str | None]()
    own = issue(NAME, by=authority)
    file = tmp_path / "own.pem"
    file.write_text(own.pem + own.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    async with serving(answer, tls=context) as place:
        yield place, authority, asked


@pytest_asyncio.fixture
async def strict(tmp_path: Path) -> AsyncGenerator[tuple[Place, Issued, list[str]]]:
    """A server that wants certificates of its authority; it notes whose they are."""
    async with strict_server(tmp_path) as made:
        yield made


def _world(authority: Issued, hostname: str) -> list[Object | Broken]:
    return [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.service("web", "10.96.0.1"),
        objects.endpoint_slice("web", ["10.244.0.1"]),
        objects.http_route("web", parent={"name": "front"}, backends=[("web", 1)]),
        *tls("web", authority, hostname),
    ]


async def _status(
    envoy: CompiledEnvoy,
    place: Place,
    world: list[Object | Broken],
    settings: Settings | None = None,
) -> int:
    compiler = Compiler(settings)
    compiler.apply(objects.added(world))
    assert compiler.failures == {}
    await envoy.run(compiler.resources("n1"), Surroundings(endpoints={"10.244.0.1": place}))
    return (await envoy.ask(FRONT)).status


def _showing(chain: Issued) -> list[Object | Broken]:
    """Return a Gateway that shows a certificate, and the certificate."""
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}],
            "tls": {"backend": {"clientCertificateRef": {"name": "client"}}},
        },
    }
    return [objects.made(gateway), objects.made(tls_secret_raw("client", "shop", [chain]))]


async def test_an_endpoint_that_wants_a_certificate_is_shown_that_of_the_gateway(
    envoy: CompiledEnvoy, strict: tuple[Place, Issued, list[str]]
) -> None:
    place, authority, seen = strict
    world = [one for one in _world(authority, NAME) if one.ref.kind != "Gateway"]
    client = issue("gateway.shop", by=authority)
    assert await _status(envoy, place, [*world, *_showing(client)]) == 200
    assert seen == ["gateway.shop"]


async def test_an_endpoint_that_wants_a_certificate_is_not_asked_without_a_good_one(
    envoy: CompiledEnvoy, strict: tuple[Place, Issued, list[str]]
) -> None:
    place, authority, seen = strict
    world = [one for one in _world(authority, NAME) if one.ref.kind != "Gateway"]
    assert await _status(envoy, place, [*world, *_showing(issue("stranger"))]) == 503
    assert await _status(envoy, place, _world(authority, NAME)) == 503
    assert seen == []


async def test_an_endpoint_is_asked_for_by_its_name_and_must_have_it(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, authority, asked = server
    assert await _status(envoy, place, _world(authority, NAME)) == 200
    assert set(asked) == {NAME}
    assert await _status(envoy, place, _world(authority, "other.internal")) == 503


async def test_an_endpoint_of_a_stranger_is_not_asked_anything(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, _, _ = server
    assert await _status(envoy, place, _world(issue("stranger"), NAME)) == 503


async def test_without_a_certificate_to_trust_nothing_is_connected(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, authority, asked = server
    world = [one for one in _world(authority, NAME) if one.ref.kind != "ConfigMap"]
    assert await _status(envoy, place, world) == 503
    assert asked == []


def _trusting(**validation: Any) -> list[Object | Broken]:
    """Return the world with other authorities than those of a ConfigMap."""
    policy = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "BackendTLSPolicy",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "validation": {"hostname": NAME, **validation},
        },
    }
    without = {"ConfigMap", "BackendTLSPolicy"}
    world = [one for one in _world(issue("unused"), NAME) if one.ref.kind not in without]
    return [*world, objects.made(policy)]


async def test_an_endpoint_is_judged_by_the_systems_authorities(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, authority, asked = server
    world = _trusting(wellKnownCACertificates="System")
    assert await _status(envoy, place, world) == 503
    assert asked == []
    strangers = Settings(system_authorities=issue("stranger").pem.encode())
    assert await _status(envoy, place, world, strangers) == 503
    trusting = Settings(system_authorities=authority.pem.encode())
    assert await _status(envoy, place, world, trusting) == 200
    assert set(asked) == {NAME}


async def test_an_endpoint_is_judged_by_a_bundle_of_the_cluster(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, authority, _ = server
    kind = {"kind": "ClusterTrustBundle", "metadata": {"name": "roots"}}
    bundle = {
        "apiVersion": "certificates.k8s.io/v1",
        **kind,
        "spec": {"trustBundle": authority.pem},
    }
    reference = {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "roots"}
    world = _trusting(caCertificateRefs=[reference])
    assert await _status(envoy, place, world) == 503
    assert await _status(envoy, place, [*world, objects.made(bundle)]) == 200


async def test_a_policy_that_is_not_understood_closes_its_service(
    envoy: CompiledEnvoy, server: tuple[Place, Issued, list[str | None]]
) -> None:
    place, authority, asked = server
    *others, policy = _world(authority, NAME)
    assert not isinstance(policy, Broken)
    broken = Broken(
        of_kind="BackendTLSPolicy",
        metadata=policy.metadata,
        raw={"spec": {"targetRefs": [{"kind": "Service", "name": "web"}], "validation": 7}},
        problems=(),
    )
    assert await _status(envoy, place, [*others, broken]) == 503
    assert asked == []
