"""Copies of requests in the mesh: each is a request of the client's pod, and judged as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web

from penstock.envoy.copies import COPIES
from penstock.envoy.scope import egress_key
from penstock.meta.listeners import egress_name
from penstock.xds import types
from penstock.xds.resource import Resource
from support import golden
from support.compiled_envoy import (
    CompiledEnvoy,
    Surroundings,
    compiled_envoy,
    scope_at,
    socket_name,
)
from support.http_backend import pods, serving_all
from support.raw_http import Answer
from support.real_envoy import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIP = "10.96.0.1:80"
CLIENTS = ("client", "bound")
HOST = "web.shop"
MANY = 200


class Application:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    def asked(self, path: str) -> list[web.Request]:
        return [one for one in self.requests if one.path == path]

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.requests.append(request)
        return web.Response(text="here")


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.envoy = envoy
        self.applications = [Application() for _ in range(3)]
        self.web, self.copy, self.closed = self.applications
        self.resources: list[Resource] = []
        self.around = Surroundings()
        self._numbers = iter(range(10_000))

    async def run(self, resources: list[Resource]) -> None:
        await self.envoy.run(resources, self.around)

    async def ask(self, path: str, client: str = "client", **more: str) -> Answer:
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return await self.envoy.ask(egress_name(client), path, host=HOST, headers=headers)

    async def copied(self) -> None:
        """Make a request that is copied and wait for the copy: earlier ones have come, too."""
        path = f"/all/{next(self._numbers)}"
        assert (await self.ask(path)).status == 200
        await eventually(lambda: bool(self.copy.asked(path)))


def _found(resource: Resource) -> list[Resource]:
    """Let the scope of the Service be found at the sockets of both pods."""
    if (resource.type_url, resource.name) != (types.SCOPE, egress_key(VIP)):
        return [resource]
    return [scope_at(resource, egress_key(socket_name(egress_name(one)))) for one in CLIENTS]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy)
        async with serving_all(one.answer for one in made.applications) as places:
            case = golden.compiled("mesh-copies")
            made.resources = [found for one in case.resources for found in _found(one)]
            made.around = Surroundings(endpoints=pods(places))
            await made.run(made.resources)
            yield made


async def test_a_copy_is_the_request_as_it_is_forwarded(lab: Lab) -> None:
    path = "/all/100001"
    sent = {"x_forwarded_for": "192.0.2.9", "x_request_id": "mine", "x_penstock_other": "kept"}
    assert (await lab.ask(path, **sent)).status == 200
    await eventually(lambda: len(lab.copy.asked(path)) == 1)
    (copy,), (original,) = lab.copy.asked(path), lab.web.asked(path)
    assert original.headers["x-set"] == "yes"
    assert sorted(copy.headers.items()) == sorted(original.headers.items())


async def test_a_client_that_sent_no_forwarded_for_sends_none_in_the_copy(lab: Lab) -> None:
    path = "/all/100002"
    await lab.ask(path)
    await eventually(lambda: len(lab.copy.asked(path)) == 1)
    assert "x-forwarded-for" not in lab.copy.asked(path)[0].headers


async def test_a_share_of_the_requests_is_copied(lab: Lab) -> None:
    path = "/half/1"
    for _ in range(MANY // 20):
        await asyncio.gather(*(lab.ask(path) for _ in range(20)))
    assert len(lab.web.asked(path)) == MANY
    await lab.copied()
    assert abs(len(lab.copy.asked(path)) - MANY / 2) < 4 * (MANY / 4) ** 0.5


async def test_the_servers_rules_for_http_are_applied_to_the_copy(lab: Lab) -> None:
    assert (await lab.ask("/all/secret")).status == 200
    await lab.copied()
    assert lab.copy.asked("/all/secret") == []


async def test_several_copies_are_judged_each_by_itself(lab: Lab) -> None:
    path = "/several/1"
    assert (await lab.ask(path)).status == 200
    await eventually(lambda: len(lab.copy.asked(path)) == 1)
    await lab.copied()
    assert lab.closed.requests == []


async def test_a_client_whose_egress_rules_forbid_it_sends_no_copy(lab: Lab) -> None:
    path = "/all/100003"
    assert (await lab.ask(path, "bound")).status == 200
    await lab.copied()
    assert lab.copy.asked(path) == []


async def test_a_client_cannot_say_that_it_is_another(lab: Lab) -> None:
    path = "/all/100004"
    assert (await lab.ask("/all/100005")).status == 200
    await eventually(lambda: bool(lab.copy.asked("/all/100005")))
    forged = {
        "x_penstock_copy_identity": "8",
        "x_penstock_copy_cluster": "mesh|shop/closed/80",
        "x_penstock_identity": "8",
    }
    assert (await lab.ask(path, "bound", **forged)).status == 200
    await lab.copied()
    assert (lab.copy.asked(path), lab.closed.requests) == ([], [])


async def test_copies_go_on_after_they_ended(lab: Lab) -> None:
    without = [one for one in lab.resources if one.name != COPIES]
    await lab.run(without)
    assert (await lab.ask("/all/100006")).status == 200
    await lab.run(lab.resources)
    await lab.copied()


async def test_the_socket_is_for_root_only(lab: Lab) -> None:
    assert (lab.envoy.folder / "copies.sock").stat().st_mode & 0o777 == 0o600
