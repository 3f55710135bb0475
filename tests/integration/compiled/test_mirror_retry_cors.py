"""Copies, repeated requests, and pages of other origins, at a Gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web

from support import golden
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy
from support.http_backend import pods, serving_all
from support.raw_http import Answer
from support.real_envoy import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"
MANY = 200


class Application:
    """Notes what it is asked; fails as often and as long as the query says."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []

    def asked(self, path: str) -> list[web.Request]:
        return [one for one in self.requests if one.path_qs == path]

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        times = len(self.asked(request.path_qs))
        if times <= int(request.query.get("fail", "0")):
            return web.Response(status=int(request.query["with"]))
        if times <= int(request.query.get("stall", "0")):
            await asyncio.sleep(5)
        return web.Response(text="here")


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.ask = envoy.ask
        self.applications = [Application() for _ in range(3)]
        self.web, self.copy, self.closed = self.applications


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy)
        async with serving_all(one.answer for one in made.applications) as places:
            case = golden.compiled("mirror-retry-cors")
            await envoy.run(case.resources, Surroundings(endpoints=pods(places)))
            yield made


# Mirrors


async def test_a_copy_is_the_request_as_it_is_forwarded(lab: Lab) -> None:
    path = "/all/x?n=1"
    assert (await lab.ask(FRONT, path, host="mirrors.test")).status == 200
    await eventually(lambda: len(lab.copy.asked(path)) == 1)
    (copy,), (original,) = lab.copy.asked(path), lab.web.asked(path)
    for one in (copy, original):
        assert (one.headers["x-set"], one.headers["host"]) == ("yes", "mirrors.test")


async def test_a_share_of_the_requests_is_copied(lab: Lab) -> None:
    path = "/half/x"
    for _ in range(MANY // 20):
        await asyncio.gather(*(lab.ask(FRONT, path, host="mirrors.test") for _ in range(20)))
    assert len(lab.web.asked(path)) == MANY
    last = "/all/after-the-share"
    await lab.ask(FRONT, last, host="mirrors.test")
    await eventually(lambda: len(lab.copy.asked(last)) == 1)
    assert abs(len(lab.copy.asked(path)) - MANY / 2) < 4 * (MANY / 4) ** 0.5


async def test_copies_are_judged_by_policy_and_a_missing_one_harms_nobody(lab: Lab) -> None:
    path = "/several/x"
    assert (await lab.ask(FRONT, path, host="mirrors.test")).status == 200
    await eventually(lambda: len(lab.copy.asked(path)) == 1)
    last = "/all/after-the-closed-one"
    await lab.ask(FRONT, last, host="mirrors.test")
    await eventually(lambda: len(lab.copy.asked(last)) == 1)
    assert lab.closed.requests == []


# Retries


@pytest.mark.parametrize(
    ("path", "status", "attempts"),
    [
        ("/codes?fail=2&with=500", 200, 3),
        ("/codes?fail=2&with=503", 200, 3),
        ("/codes?fail=3&with=503", 503, 3),
        ("/codes?fail=1&with=502", 502, 1),
        ("/codes?fail=0", 200, 1),
        ("/never?fail=1&with=500", 500, 1),
        ("/slow?stall=1", 200, 2),
    ],
)
async def test_answers_with_these_codes_are_asked_for_again(
    lab: Lab, path: str, status: int, attempts: int
) -> None:
    assert (await lab.ask(FRONT, path, host="retries.test")).status == status
    assert len(lab.web.asked(path)) == attempts


# CORS


async def _preflight(
    lab: Lab, path: str, origin: str, method: str = "PUT", headers: str = ""
) -> Answer:
    asked = {"origin": origin, "access-control-request-method": method}
    if headers:
        asked["access-control-request-headers"] = headers
    return await lab.ask(FRONT, path, host="cors.test", method="OPTIONS", headers=asked)


def _allowed(answer: Answer) -> dict[str, str]:
    prefix = "access-control-"
    return {name.removeprefix(prefix): v for name, v in answer.headers if name.startswith(prefix)}


@pytest.mark.parametrize(
    "origin", ["https://www.foo.com", "https://www.bar.com", "https://a.b.bar.com"]
)
async def test_a_preflight_of_a_known_origin_is_told_what_is_listed(lab: Lab, origin: str) -> None:
    answer = await _preflight(lab, "/listed", origin)
    assert answer.status == 200
    assert _allowed(answer) == {
        "allow-origin": origin,
        "allow-methods": "GET, OPTIONS",
        "allow-headers": "x-header-1, x-header-2",
        "expose-headers": "x-header-3",
        "allow-credentials": "true",
        "max-age": "3600",
    }


@pytest.mark.parametrize(
    "origin",
    ["https://foo.com", "http://www.foo.com", "https://bar.com", "https://x.bar.com:8443"],
)
async def test_strangers_are_allowed_nothing(lab: Lab, origin: str) -> None:
    before = len(lab.web.requests)
    answer = await _preflight(lab, "/listed", origin)
    assert answer.status == 200
    assert "allow-origin" not in _allowed(answer)
    assert len(lab.web.requests) == before
    plain = await lab.ask(FRONT, "/listed", host="cors.test", headers={"origin": origin})
    assert (plain.status, _allowed(plain)) == (200, {})


@pytest.mark.parametrize(
    ("path", "more"),
    [("/everything", {}), ("/credentials", {"allow-credentials": "true"})],
)
async def test_a_star_is_what_was_asked_for(lab: Lab, path: str, more: dict[str, str]) -> None:
    answer = await _preflight(lab, path, "https://any.test:1234", "PUT", "x-a, x-b")
    assert answer.status == 200
    assert _allowed(answer) == {
        "allow-origin": "https://any.test:1234",
        "allow-methods": "PUT",
        "allow-headers": "x-a, x-b",
        "max-age": "5",
        **more,
    }
    plain = {"origin": "https://any.test:1234"}
    answer = await lab.ask(FRONT, path, host="cors.test", headers=plain)
    assert _allowed(answer) == {"allow-origin": "https://any.test:1234", **more}
