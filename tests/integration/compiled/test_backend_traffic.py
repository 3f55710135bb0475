"""Limits of repeated requests, and sessions, of Services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web

from support import golden
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy
from support.http_backend import pods, serving_all

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"
MANY = 20


class Endpoint:
    """Says its number, or fails together with all others that are asked to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.failed = 0

    async def answer(self, request: web.Request) -> web.Response:
        if "fail" not in request.query:
            return web.Response(text=str(self.number))
        self.failed += 1
        await asyncio.sleep(0.05)
        return web.Response(status=500)


class Lab:
    def __init__(self, envoy: CompiledEnvoy) -> None:
        self.ask = envoy.ask
        self.endpoints = [Endpoint(number) for number in range(1, 6)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy)
        async with serving_all(one.answer for one in made.endpoints) as places:
            case = golden.compiled("backend-traffic")
            await envoy.run(case.resources, Surroundings(endpoints=pods(places)))
            yield made


async def test_a_single_failure_is_repeated_within_the_least_rate(lab: Lab) -> None:
    assert (await lab.ask(FRONT, "/v1?fail")).status == 500
    assert sum(one.failed for one in lab.endpoints) == 4


async def test_many_failures_at_once_are_repeated_as_far_as_the_budget_goes(lab: Lab) -> None:
    before = sum(one.failed for one in lab.endpoints)
    answers = await asyncio.gather(*(lab.ask(FRONT, "/v1?fail") for _ in range(MANY)))
    assert {one.status for one in answers} == {500, 503}
    assert not any(one.header("x-penstock-flags") for one in answers)
    asked = sum(one.failed for one in lab.endpoints) - before
    assert MANY < asked < 2 * MANY


async def test_without_a_budget_all_failures_are_repeated_however_many_there_are(lab: Lab) -> None:
    before = sum(one.failed for one in lab.endpoints)
    answers = await asyncio.gather(*(lab.ask(FRONT, "/free?fail") for _ in range(MANY)))
    assert {one.status for one in answers} == {500}
    assert sum(one.failed for one in lab.endpoints) - before == 3 * MANY


async def test_a_service_keeps_sessions_by_itself(lab: Lab) -> None:
    first = await lab.ask(FRONT, "/v2")
    token = {"cookie": first.header("set-cookie").partition(";")[0]}
    assert token["cookie"].startswith("seat=")
    assert {(await lab.ask(FRONT, "/v2", headers=token)).body for _ in range(MANY)} == {first.body}


async def test_a_session_of_a_service_has_no_say_in_the_weights(lab: Lab) -> None:
    while not (first := await lab.ask(FRONT, "/both")).header("set-cookie"):
        pass
    token = {"cookie": first.header("set-cookie").partition(";")[0]}
    found = {(await lab.ask(FRONT, "/both", headers=token)).body for _ in range(3 * MANY)}
    assert found == {"1", "2", first.body}


async def test_the_session_of_a_rule_goes_before_that_of_its_services(lab: Lab) -> None:
    assert (await lab.ask(FRONT, "/rule")).header("set-cookie").startswith("rule=")


async def test_a_policy_that_cannot_be_served_does_no_harm(lab: Lab) -> None:
    assert (await lab.ask(FRONT, "/closed")).header("set-cookie") == ""
