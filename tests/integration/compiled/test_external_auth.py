"""Requests that somebody is asked about before they pass, at a Gateway with a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web

from support import golden
from support.auth_server import AuthServer, auth_server
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy
from support.http_backend import serving
from support.raw_http import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.envoy = envoy
        self.guard = AuthServer()
        self.served: list[web.Request] = []

    async def application(self, request: web.Request) -> web.Response:
        self.served.append(request)
        return web.Response(text="here")

    async def ask(self, path: str, body: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "POST" if body else "GET"
        return await self.envoy.ask(FRONT, path, method=method, headers=named, body=body)

    def seen(self, path: str) -> list[web.Request]:
        """Return what the application was asked."""
        return [one for one in self.served if one.path == path]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy)
        async with serving(made.application) as place, auth_server(made.guard) as (http, grpc):
            places = {"10.244.0.1": place, "10.244.0.2:80": http, "10.244.0.2:9000": grpc}
            case = golden.compiled("external-auth")
            await envoy.run(case.resources, Surroundings(endpoints=places))
            yield made


async def test_what_the_server_lets_pass_is_served_with_its_headers(lab: Lab) -> None:
    answer = await lab.ask("/http/x", authorization="let-me", x_shown="1", x_hidden="2")
    assert (answer.status, answer.body) == (200, "here")
    asked = lab.guard.http[-1]
    assert (asked.method, asked.path) == ("GET", "/check/http/x")
    assert (asked.headers["host"], asked.headers["x-shown"]) == ("a.test", "1")
    assert "x-hidden" not in asked.headers
    (request,) = lab.seen("/http/x")
    assert request.headers["x-user"] == "ann"
    assert "x-other" not in request.headers


async def test_what_it_refuses_is_answered_in_its_words_and_not_served(lab: Lab) -> None:
    answer = await lab.ask("/http/refused")
    assert (answer.status, answer.body) == (401, "who?")
    assert answer.header("www-authenticate") == "Basic"
    assert lab.seen("/http/refused") == []


async def test_the_body_is_shown_where_that_is_wanted_and_a_longer_one_refused(lab: Lab) -> None:
    assert (await lab.ask("/http/body", "0123456789", authorization="let-me")).status == 200
    assert lab.guard.bodies[-1] == b"0123456789"
    before = len(lab.guard.http)
    assert (await lab.ask("/http/long", "0" * 17, authorization="let-me")).status == 413
    assert len(lab.guard.http) == before
    assert (await lab.ask("/plain/body", "0123456789", authorization="let-me")).status == 200
    assert lab.guard.bodies[-1] == b""
    (request,) = lab.seen("/plain/body")
    assert request.headers["content-length"] == "10"


async def test_without_a_list_all_headers_of_the_answer_come_but_those_of_framing(
    lab: Lab,
) -> None:
    assert (await lab.ask("/plain/x", authorization="let-me", x_shown="1")).status == 200
    assert lab.guard.http[-1].path == "/plain/x"
    assert "x-shown" not in lab.guard.http[-1].headers
    (request,) = lab.seen("/plain/x")
    assert (request.headers["x-user"], request.headers["x-other"]) == ("ann", "seen")
    assert request.headers["host"] == "a.test"
    assert "content-length" not in request.headers
    assert request.headers.get("x-penstock-scope") != "elsewhere"


async def test_pages_of_other_origins_may_ask_before_they_have_a_token(lab: Lab) -> None:
    before = len(lab.guard.http)
    answer = await lab.envoy.ask(
        FRONT,
        "/plain/page",
        method="OPTIONS",
        headers={"origin": "https://a.test", "access-control-request-method": "GET"},
    )
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == "https://a.test"
    assert len(lab.guard.http) == before


async def test_a_server_that_speaks_grpc_is_asked_by_grpc(lab: Lab) -> None:
    assert (await lab.ask("/grpc/x", x_shown="let-me", x_hidden="2")).status == 200
    http = lab.guard.grpc[-1].attributes.request.http
    assert (http.path, http.headers["x-shown"]) == ("/grpc/x", "let-me")
    assert "x-hidden" not in http.headers
    (request,) = lab.seen("/grpc/x")
    assert request.headers["x-user"] == "ben"
    refused = await lab.ask("/grpc/refused")
    assert (refused.status, refused.body) == (402, "pay")


@pytest.mark.parametrize(("path", "status"), [("/asleep/x", 503), ("/missing/x", 500)])
async def test_without_anybody_to_ask_nothing_passes(lab: Lab, path: str, status: int) -> None:
    assert (await lab.ask(path, authorization="let-me")).status == status
    assert lab.seen(path) == []


async def test_what_the_server_adds_leads_to_no_other_rule_by_way_of_a_session(lab: Lab) -> None:
    """The route is chosen anew for a session; then it would be one that asks somebody else."""
    assert (await lab.ask("/kept/by-name", x_user="ann")).status == 503
    for cookie in ("", "kept=eA.ab") * 10:  # one in ten goes to a backend without endpoints
        await lab.ask("/kept/x", authorization="let-me", cookie=cookie)
    found = lab.seen("/kept/x")
    assert found
    assert not any("x-rule" in request.headers for request in found)


async def test_redirects_are_for_those_only_who_may_pass(lab: Lab) -> None:
    assert (await lab.ask("/moved/x")).status == 401
    moved = await lab.ask("/moved/x", authorization="let-me")
    assert (moved.status, moved.header("location")) == (302, "http://b.test/moved/x")


async def test_rules_without_the_filter_ask_nobody(lab: Lab) -> None:
    before = len(lab.guard.http)
    assert (await lab.ask("/open/x")).status == 200
    assert len(lab.guard.http) == before
