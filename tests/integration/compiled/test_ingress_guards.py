"""Annotations of an Ingress that keep requests out, in a real Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from penstock.envoy import subrequest
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy
from support.http_backend import pods, serving_all
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.kube import free_ports
from support.objects import added, endpoint_slice, service
from support.raw_http import Answer, exchange

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN = "gateway/~ingress/penstock~/80"
URL = "http://guard.shop.svc.cluster.local/verify?rule=1"


class Lab:
    """An application, and a server that knows one token."""

    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.envoy = envoy
        self.served: list[web.Request] = []
        self.asked: list[web.Request] = []
        self.begun = asyncio.Event()
        self.places: dict[str, Place] = {}
        self.place = ("127.0.0.1", free_ports(1)[0])

    async def application(self, request: web.Request) -> web.Response:
        self.begun.set()
        await request.read()
        self.served.append(request)
        return web.Response(text="here")

    async def guard(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        token = request.headers.get("authorization")
        if token == "known":  # noqa: S105 - not a secret
            return web.Response(status=202, headers={"x-user": "ann"})
        if token == "broken":  # noqa: S105 - not a secret
            return web.Response(status=500)
        refused = 403 if token else 401
        return web.Response(status=refused, headers={"www-authenticate": "Bearer"})

    async def show(self, *beside: Object | Broken, **annotations: str) -> None:
        given = {NGINX + name.replace("_", "-"): value for name, value in annotations.items()}
        compiler = Compiler()
        things = [
            ingress_class(),
            *(
                service(name, f"10.96.1.{number}")
                for number, name in enumerate(("one", "guard"), 1)
            ),
            endpoint_slice("one", ["10.244.0.1"]),
            endpoint_slice("guard", ["10.244.0.2"]),
            ingress("web", rule("a.test", path()), annotations=given, defaultBackend=backend()),
            *beside,
        ]
        compiler.apply(added(things))
        assert compiler.failures == {}
        around = Surroundings(endpoints=self.places, listeners={PLAIN: self.place})
        await self.envoy.run(compiler.resources("n1"), around)
        self.served.clear()
        self.asked.clear()

    async def ask(
        self, path: str = "/x?y=1", body: str = "", source: str = "", **headers: str
    ) -> Answer:
        method = "POST" if body else "GET"
        lines = [f"{method} {path} HTTP/1.1", "host: a.test", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {len(body)}"] if body else []
        request = "\r\n".join([*lines, "", body]).encode()
        return await exchange(self.place, request, source)

    async def status(self, **headers: str) -> int:
        return (await self.ask(**headers)).status


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy:
        made = Lab(envoy)
        async with serving_all([made.application, made.guard]) as places:
            made.places.update(pods(places))
            yield made


async def test_the_server_of_auth_url_lets_pass_by_any_2xx(lab: Lab) -> None:
    await lab.show(auth_url=URL, auth_response_headers="X-User")
    answer = await lab.ask(authorization="known", x_user="forged", cookie="a=b", body="some")
    assert (answer.status, answer.body) == (200, "here")
    (asked,), (served,) = lab.asked, lab.served
    assert (asked.method, asked.path_qs) == ("GET", "/verify?rule=1")
    assert asked.headers["host"] == "guard.shop.svc.cluster.local"
    assert asked.headers["x-original-url"] == "http://a.test/x?y=1"
    assert (asked.headers["x-original-method"], asked.headers["cookie"]) == ("POST", "a=b")
    assert served.headers.getall("x-user") == ["ann"]
    assert served.headers["content-length"] == "4"


async def test_a_header_of_the_answer_is_never_the_clients(lab: Lab) -> None:
    await lab.show(auth_url=URL, auth_response_headers="X-User,X-Mail")
    assert (await lab.ask(authorization="known", x_mail="forged")).status == 200
    assert "x-mail" not in lab.served[0].headers


async def test_who_is_refused_gets_the_answer_or_the_page_to_sign_in(lab: Lab) -> None:
    await lab.show(auth_url=URL)
    unknown = await lab.ask()
    assert (unknown.status, unknown.header("www-authenticate")) == (401, "Bearer")
    assert (await lab.ask(authorization="other")).status == 403
    assert (await lab.ask(authorization="broken")).status == 503
    await lab.show(auth_url=URL, auth_signin="https://login.test/start")
    moved = await lab.ask()
    assert moved.status == 302
    assert moved.header("location") == "https://login.test/start?rd=http://a.test/x%3Fy%3D1"
    assert (await lab.ask(authorization="other")).status == 403
    assert lab.served == []


async def test_without_anybody_to_ask_nobody_passes(lab: Lab) -> None:
    await lab.show(auth_url="http://nowhere.shop.svc/verify")
    assert (await lab.ask(authorization="known")).status == 503
    await lab.show(auth_url="https://guard.shop.svc/verify")
    assert (await lab.ask(authorization="known")).status == 500
    assert lab.served == []


async def test_clients_come_from_where_they_may_whatever_they_say(lab: Lab) -> None:
    await lab.show(whitelist_source_range="127.0.0.0/8")
    assert await lab.status() == 200
    await lab.show(whitelist_source_range="192.0.2.0/24")
    assert await lab.status(x_forwarded_for="192.0.2.1") == 403
    await lab.show(denylist_source_range="127.0.0.1")
    assert await lab.status(x_forwarded_for="192.0.2.1") == 403
    await lab.show(denylist_source_range="192.0.2.0/24")
    assert await lab.status() == 200


async def test_a_canary_is_behind_the_guards_of_what_it_is_for(lab: Lab) -> None:
    canary = {NGINX + "canary": "true", NGINX + "canary-by-header": "x-canary"}
    beside = ingress("canary", rule("a.test", path()), annotations=canary)
    await lab.show(beside, whitelist_source_range="192.0.2.0/24")
    assert [await lab.status(x_canary=one) for one in ("always", "never", "")] == [403] * 3
    await lab.show(beside, auth_url=URL)
    assert [await lab.status(x_canary=one) for one in ("always", "never")] == [401] * 2
    assert await lab.status(x_canary="always", authorization="known") == 200
    assert len(lab.served) == 1


async def test_a_body_that_is_too_long_is_refused(lab: Lab) -> None:
    await lab.show(proxy_body_size="1k")
    assert (await lab.ask(body="x" * 1024)).status == 200
    assert (await lab.ask(body="x" * 1025)).status == 413
    assert len(lab.served) == 1


async def test_a_length_that_is_too_long_is_refused_before_the_body_comes(lab: Lab) -> None:
    await lab.show(proxy_body_size="1k")
    head = b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9000000000\r\n\r\n"
    assert (await exchange(lab.place, head)).status == 413
    assert lab.served == []


async def test_what_is_streamed_is_counted_and_not_held_back(lab: Lab) -> None:
    await lab.show(proxy_body_size="1k")
    head = b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n"
    short = b"200\r\n" + b"x" * 512 + b"\r\n"
    assert (await exchange(lab.place, head + short * 2 + b"0\r\n\r\n")).status == 200
    reader, writer = await asyncio.open_connection(*lab.place)
    try:
        lab.begun.clear()
        writer.write(head + short)
        await asyncio.wait_for(lab.begun.wait(), 10)  # the application has the first part
        writer.write(short + short)
        assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"413"
    finally:
        writer.close()
    assert len(lab.served) == 1


async def test_each_client_may_ask_so_often(lab: Lab) -> None:
    await lab.show(limit_rpm="2", limit_burst_multiplier="1")
    assert [await lab.status(x_forwarded_for=f"192.0.2.{n}") for n in range(4)] == [200] * 3 + [503]
    assert (await lab.ask(source="127.0.0.2")).status == 200
    assert len(lab.served) == 4


async def test_a_client_may_ask_again_when_the_time_has_come(lab: Lab) -> None:
    await lab.show(limit_rps="2", limit_burst_multiplier="1")
    assert 503 in [await lab.status() for _ in range(20)]
    async with asyncio.timeout(10):
        while await lab.status() != 200:
            pass


async def test_some_networks_have_no_limit_and_others_still_have(lab: Lab) -> None:
    await lab.show(limit_rpm="1", limit_burst_multiplier="1", limit_whitelist="127.0.0.2, ::1")
    free = [(await lab.ask(source="127.0.0.2")).status for _ in range(6)]
    assert free == [200] * 6
    assert [await lab.status() for _ in range(3)] == [200, 200, 503]


async def test_who_asks_too_often_is_not_asked_about(lab: Lab) -> None:
    await lab.show(auth_url=URL, limit_rpm="1", limit_burst_multiplier="1", limit_rps="9")
    found = [await lab.status(authorization="known") for _ in range(3)]
    assert found == [200, 200, 503]
    assert len(lab.asked) == 2


async def test_a_script_that_fails_lets_nobody_pass(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Envoy goes on with a request whose script has failed."""
    broken = subrequest.SCRIPT.replace("if status >= 200", "nothing.at.all() if status >= 200")
    monkeypatch.setattr(subrequest, "SCRIPT", broken)
    await lab.show(auth_url=URL, proxy_body_size="1k")
    assert await lab.status(authorization="known") == 403
    assert lab.served == []


async def test_a_body_is_limited_before_the_question(lab: Lab) -> None:
    await lab.show(auth_url=URL, proxy_body_size="1k")
    assert (await lab.ask(body="x" * 1025, authorization="known")).status == 413
    assert (lab.asked, lab.served) == ([], [])
    assert (await lab.ask(body="x" * 1024, authorization="known")).status == 200
