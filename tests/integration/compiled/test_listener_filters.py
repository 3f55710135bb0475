"""Requests that listeners ask about before a route is chosen, at a Gateway with a real Envoy."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from support import golden
from support.auth_server import AuthServer, auth_server
from support.compiled_envoy import (
    ROUTE_HEADER,
    CompiledEnvoy,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.http_backend import http_backend, seen
from support.raw_http import Answer
from support.tls_client import client_context, tls_connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT, SECURE = "gateway/shop/front/80", "gateway/shop/front/443"
ANN, BEN, ALL, ADDED = "shop/web/0/0", "shop/web/1/0", "shop/web/2/0", "shop/added/0/0"
TOKENS = {"authorization": "let-me", "x-shown": "let-me"}


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.envoy = envoy
        self.guard = AuthServer()

    async def ask(self, host: str, path: str = "/", body: str = "", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        method = "POST" if body else "GET"
        return await self.envoy.ask(FRONT, path, host=host, method=method, headers=named, body=body)

    async def pass_(self, host: str, path: str = "/") -> Answer:
        return await self.ask(host, path, **TOKENS)

    def asked(self) -> tuple[int, int]:
        """Return how many questions there were, by HTTP and by gRPC."""
        return len(self.guard.http), len(self.guard.grpc)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy)
        async with http_backend("web") as web, auth_server(made.guard) as (by_http, by_grpc):
            places = {"10.244.0.1": web, "10.244.0.2:80": by_http, "10.244.0.2:9000": by_grpc}
            case = golden.compiled("listener-filters")
            await envoy.run(case.resources, Surroundings(endpoints=places))
            yield made


async def test_the_route_is_chosen_by_what_the_server_says(lab: Lab) -> None:
    answer = await lab.pass_("x.asked.test", "/me")
    assert answer.header(ROUTE_HEADER) == ANN
    assert seen(answer).all("x-user") == ["ann"]
    assert lab.guard.http[-1].path == "/check/me"
    # without the filter nobody is ann; what a client says of itself is replaced
    assert (await lab.pass_("other.test", "/me")).status == 404
    claimed = await lab.ask("x.asked.test", "/me", **TOKENS, x_user="ben")
    assert claimed.header(ROUTE_HEADER) == ANN
    assert seen(claimed).all("x-user") == ["ann"]


@pytest.mark.parametrize(
    "host",
    [
        "x.asked.test",
        "X.Asked.TEST",
        "x.asked.test.",
        "x.asked.test:80",
        "x.asked.test:8080",
        "x.asked.test:x",
        "a.b.asked.test",
        "exact.asked.test",
        "EXACT.asked.test:1",
    ],
)
async def test_no_way_of_writing_the_host_goes_around_the_question(lab: Lab, host: str) -> None:
    answer = await lab.ask(host, "/all")
    assert answer.status in (400, 401), answer


@pytest.mark.parametrize("path", ["/all", "/nothing/here", "/me"])
async def test_it_is_asked_whether_there_is_a_route_or_not(lab: Lab, path: str) -> None:
    answer = await lab.ask("x.asked.test", path)
    assert (answer.status, answer.body) == (401, "who?")
    assert answer.header("www-authenticate") == "Basic"


async def test_a_request_without_a_route_that_may_pass_finds_nothing(lab: Lab) -> None:
    assert (await lab.pass_("exact.asked.test", "/nothing")).status == 404


async def test_a_redirect_may_depend_on_what_the_server_says(lab: Lab) -> None:
    moved = await lab.pass_("exact.asked.test", "/moved")
    assert (moved.status, moved.header("location")) == (302, "http://b.test/moved")


async def test_a_route_may_ask_once_more_for_itself(lab: Lab) -> None:
    before = lab.asked()
    assert (await lab.ask("exact.asked.test", "/mine", authorization="let-me")).status == 402
    assert lab.asked() == (before[0] + 1, before[1] + 1)
    answer = await lab.pass_("exact.asked.test", "/mine")
    assert answer.status == 200
    assert seen(answer).all("x-user") == ["ben"]


async def test_several_are_asked_in_order_and_the_first_no_is_the_last_word(lab: Lab) -> None:
    before = lab.asked()
    assert (await lab.ask("twice.test", "/all", x_shown="let-me")).status == 401
    assert lab.asked() == (before[0] + 1, before[1])
    assert (await lab.ask("twice.test", "/all", authorization="let-me")).status == 402
    assert lab.asked() == (before[0] + 2, before[1] + 1)
    answer = await lab.pass_("twice.test", "/me")
    assert answer.header(ROUTE_HEADER) == BEN  # the second one has the last word
    assert lab.guard.grpc[-1].attributes.request.http.headers["x-user"] == "ann"


async def test_a_server_changes_the_path_but_never_host_and_method(lab: Lab) -> None:
    kept = lab.guard.by_grpc
    lab.guard.by_grpc = {
        ":path": "/all/of/it", ":method": "POST", ":authority": "other.test", "host": "other.test",
        "x-penstock-scope": "gw|shop/front/80|other.test", "x-user": "nobody",
    }  # fmt: skip
    try:
        answer = await lab.pass_("twice.test", "/elsewhere")
    finally:
        lab.guard.by_grpc = kept
    assert answer.header(ROUTE_HEADER) == ALL
    assert (seen(answer).method, seen(answer).path) == ("GET", "/all/of/it")
    assert seen(answer).all("host") == ["twice.test"]


async def test_the_body_is_shown_where_that_is_wanted_and_a_longer_one_refused(lab: Lab) -> None:
    assert (await lab.ask("x.asked.test", "/all", "0123456789", **TOKENS)).status == 200
    assert lab.guard.bodies[-1] == b"0123456789"
    before = lab.asked()
    assert (await lab.ask("x.asked.test", "/all", "0" * 17, **TOKENS)).status == 413
    assert lab.asked() == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("missing.test", 500),
        ("missing.test:80", 500),
        ("extended.test", 500),
        ("refused.test", 500),
        ("asleep.test", 503),
    ],
)
async def test_where_nobody_can_be_asked_nothing_passes(lab: Lab, host: str, status: int) -> None:
    for path in ("/all", "/nothing"):
        assert (await lab.pass_(host, path)).status == status


async def test_listeners_of_sets_ask_whom_their_own_namespace_has(lab: Lab) -> None:
    assert (await lab.ask("own.test")).status == 401
    assert (await lab.pass_("own.test")).header(ROUTE_HEADER) == ADDED


@pytest.mark.parametrize("host", ["other.test", "asked.test", "nothing.test"])
async def test_listeners_without_filters_ask_nobody(lab: Lab, host: str) -> None:
    before = lab.asked()
    assert (await lab.ask(host, "/all")).status == 200
    assert lab.asked() == before


async def test_a_listener_of_https_asks_about_its_own_requests_only(lab: Lab) -> None:
    at = lab.envoy.folder / socket_name(SECURE)
    async with tls_connection(at, "second.test", client_context(("http/1.1",))) as connection:
        assert (await connection.ask("second.test", "/all")).status == 401
    before = lab.asked()
    async with tls_connection(at, "a.test", client_context(("http/1.1",))) as connection:
        assert (await connection.ask("a.test", "/all")).status == 200
        # On this connection nothing of the other listener is served, nor asked about.
        assert (await connection.ask("second.test", "/all")).status == 421
    assert lab.asked() == before
