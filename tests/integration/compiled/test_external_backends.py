"""Requests that leave the cluster, to names in DNS, from a Gateway with a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from penstock.compiler.compile import Compiler
from penstock.envoy.cluster import HTTP_OPTIONS
from penstock.envoy.wire import pack
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as options_pb2
from penstock.xds.resource import Resource
from support import golden, objects
from support.compiled_envoy import CompiledEnvoy, compiled_envoy, remade
from support.http_backend import serving
from support.kube import free_ports
from support.objects import added, made
from support.pki import issue, tls_secret_raw
from support.tls_server import NAME, strict_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"


def _raw(port: int) -> list[dict[str, Any]]:
    """Return the objects of the golden case, with a name that is there and a port."""
    found: list[dict[str, Any]] = []
    for file in sorted((golden.CASES / "external-backends" / "in").iterdir()):
        text = file.read_text().replace("outside.test", "localhost")
        found += yaml.safe_load_all(text.replace("8080", str(port)).replace("8081", str(port)))
    return found


def _open(resource: Resource) -> Resource:
    """Return what leads outside without what refuses this machine: there is no other place here."""
    if resource.name != "host|shop/outside":
        return resource
    cluster = cluster_pb2.Cluster.FromString(resource.body)
    packed = cluster.typed_extension_protocol_options[HTTP_OPTIONS]
    options = options_pb2.HttpProtocolOptions.FromString(packed.value)
    (refusal, _) = options.http_filters
    assert refusal.name == "penstock.refused"
    del options.http_filters[:]
    packed.CopyFrom(pack(options))
    return remade(resource, cluster)


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.ask = envoy.ask
        self.hosts: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.hosts.append(request.host)
        return web.Response(text="outside")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        lab = Lab(envoy)
        async with serving(lab.answer, "0.0.0.0") as (_, port):
            compiler = Compiler()
            compiler.apply(added(map(made, _raw(port))))
            assert compiler.failures == {}
            await envoy.run(map(_open, compiler.resources("n1")))
            yield lab


async def test_requests_go_to_what_the_name_stands_for(lab: Lab) -> None:
    answer = await lab.ask(FRONT, "/out")
    assert (answer.status, answer.body) == (200, "outside")
    assert lab.hosts[-1] == "a.test"


async def test_who_is_outside_is_shown_the_certificate_that_the_xbackend_names(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    refs = [{"group": "", "kind": "ConfigMap", "name": "ca"}]
    tls: dict[str, Any] = {
        "mode": "ClientAndServer",
        "clientCertificateRef": {"name": "client"},
        "validation": {"hostname": NAME, "caCertificateRefs": refs},
    }
    folder = tmp_path_factory.mktemp("e")
    async with strict_server(folder) as (place, authority, whose), compiled_envoy(folder) as envoy:
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ca", "namespace": "shop"},
            "data": {"ca.crt": authority.pem},
        }
        secret = tls_secret_raw("client", "shop", [issue("client", by=authority)])
        compiler = Compiler()
        things = [
            objects.gateway_class(),
            objects.gateway("front"),
            objects.http_route("r", parent={"name": "front"}, backends=[("outside", 1)]),
            objects.xbackend("outside", "localhost", port=place[1], tls=tls),
            made(config_map),
            made(secret),
        ]
        compiler.apply(added(things))
        assert compiler.failures == {}
        await envoy.run(map(_open, compiler.resources("n1")))
        assert (await envoy.ask(FRONT)).status == 200
    assert whose == ["client"]


async def test_who_refuses_connections_outside_is_unavailable(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    (nobody,) = free_ports(1)
    things = [
        objects.gateway_class(),
        objects.gateway("front"),
        objects.http_route("r", parent={"name": "front"}, backends=[("outside", 1)]),
        objects.xbackend("outside", "localhost", port=nobody),
    ]
    compiler = Compiler()
    compiler.apply(added(things))
    assert compiler.failures == {}
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        await envoy.run(map(_open, compiler.resources("n1")))
        answer = await envoy.ask(FRONT)
        assert answer.status == 503
        assert answer.body.endswith("remote connection failure")
        call = {"content-type": "application/grpc"}
        answer = await envoy.ask(FRONT, "/a.A/b", method="POST", headers=call)
        assert answer.header("grpc-status") == "14"


async def test_no_name_leads_to_the_node_itself(lab: Lab) -> None:
    before = len(lab.hosts)
    assert (await lab.ask(FRONT, "/local")).status == 403
    assert len(lab.hosts) == before


async def test_a_name_that_is_not_there_is_unavailable(lab: Lab) -> None:
    assert (await lab.ask(FRONT, "/other")).status == 503


@pytest.mark.parametrize("path", ["/refused", "/kinds"])
async def test_what_is_not_permitted_or_not_served_is_closed(lab: Lab, path: str) -> None:
    assert (await lab.ask(FRONT, path)).status == 500


async def test_calls_go_only_to_what_speaks_http2(lab: Lab) -> None:
    headers = {"content-type": "application/grpc"}
    answer = await lab.ask(FRONT, "/a.A/b", host="calls.test", method="POST", headers=headers)
    assert answer.header("grpc-status") == "14"
