"""Clients of a Gateway that must show a certificate, in real handshakes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend
from support.pki import Issued, issue, tls_secret_raw
from support.tls_client import HandshakeRefusedError, client_context, tls_connection

OWN, AUTHORITY, STRANGER = issue("a.test"), issue("authority"), issue("stranger")


@pytest_asyncio.fixture
async def envoy(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[CompiledEnvoy]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as made:
        yield made


OF_NAMESPACE = {"group": "", "kind": "ConfigMap", "name": "ca"}
OF_CLUSTER = {"group": "certificates.k8s.io", "kind": "ClusterTrustBundle", "name": "ca"}


def _gateway(mode: str, authority: dict[str, str]) -> list[Object | Broken]:
    validation = {"mode": mode, "caCertificateRefs": [authority]}
    https = {
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "own"}]},
    }
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": {
            "gatewayClassName": "penstock",
            "listeners": [https],
            "tls": {"frontend": {"default": {"validation": validation}}},
        },
    }
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca", "namespace": "shop"},
        "data": {"ca.crt": AUTHORITY.pem},
    }
    bundle = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "ClusterTrustBundle",
        "metadata": {"name": "ca"},
        "spec": {"trustBundle": AUTHORITY.pem},
    }
    return [
        objects.gateway_class(),
        *map(objects.made, (gateway, config_map, bundle, tls_secret_raw("own", "shop", [OWN]))),
        objects.service("web", "10.96.0.1"),
        objects.endpoint_slice("web", ["10.244.0.1"]),
        objects.http_route("web", parent={"name": "front"}, backends=[("web", 1)]),
    ]


def _client(folder: Path, shown: Issued | None) -> ssl.SSLContext:
    # In TLS 1.3 a client learns of its refusal after the handshake only.
    context = client_context(("http/1.1",), ssl.TLSVersion.TLSv1_2)
    if shown is not None:
        file = folder / "client.pem"
        file.write_text(shown.pem + shown.key_pem)
        context.load_cert_chain(file)
    return context


async def _status(envoy: CompiledEnvoy, folder: Path, shown: Issued | None) -> int:
    at = envoy.folder / socket_name("gateway/shop/front/443")
    async with tls_connection(at, "a.test", _client(folder, shown)) as connection:
        return (await connection.ask("a.test", "/")).status


async def _run(
    envoy: CompiledEnvoy, mode: str, web: tuple[str, int], authority: dict[str, str] = OF_NAMESPACE
) -> None:
    compiler = Compiler()
    compiler.apply(objects.added(_gateway(mode, authority)))
    assert compiler.failures == {}
    await envoy.run(compiler.resources("n1"), Surroundings(endpoints={"10.244.0.1": web}))


@pytest.mark.parametrize("authority", [OF_NAMESPACE, OF_CLUSTER], ids=lambda one: one["kind"])
async def test_only_clients_of_the_authority_come_in(
    envoy: CompiledEnvoy, tmp_path: Path, authority: dict[str, str]
) -> None:
    async with http_backend("one") as web:
        await _run(envoy, "AllowValidOnly", web, authority)
        assert await _status(envoy, tmp_path, issue("client", by=AUTHORITY)) == 200
        for shown in (None, issue("client", by=STRANGER)):
            with pytest.raises(HandshakeRefusedError):
                await _status(envoy, tmp_path, shown)


async def test_the_insecure_mode_lets_everybody_in(envoy: CompiledEnvoy, tmp_path: Path) -> None:
    async with http_backend("one") as web:
        await _run(envoy, "AllowInsecureFallback", web)
        for shown in (None, issue("client", by=STRANGER), issue("client", by=AUTHORITY)):
            assert await _status(envoy, tmp_path, shown) == 200
