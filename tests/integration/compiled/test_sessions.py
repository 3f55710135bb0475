"""Clients stay at their endpoint, whatever the weights are, and nowhere that they may not be."""

from __future__ import annotations

import base64
import contextlib
import copy
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from penstock.core.events import Event, EventType
from penstock.envoy.scope import egress_key
from penstock.xds import types
from support import golden
from support.compiled_envoy import (
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    scope_at,
    socket_name,
)
from support.http_backend import pods, serving_all
from support.objects import made
from support.raw_http import Answer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Change = Callable[[dict[str, Any]], None]
VIP = "10.96.0.1"
FRONT, EGRESS = "gateway/shop/front/80", "client/egress"
MANY = 30


class Endpoint:
    """Says its number, sets a cookie of its own, and notes the headers of what it was asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[Mapping[str, str]] = []
        self.place: Place = ("", 0)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        own = {"Set-Cookie": "own=1; Path=/"}
        return web.Response(text=str(self.number), headers=own)


class Lab:
    def __init__(self, envoy: CompiledEnvoy, endpoints: list[Endpoint]) -> None:
        self.envoy, self.ask = envoy, envoy.ask
        self.endpoints = endpoints
        self.case = golden.compiled("sessions")
        files = sorted((golden.CASES / "sessions" / "in").iterdir())
        self.written = [one for file in files for one in yaml.safe_load_all(file.read_text())]

    async def show(self) -> None:
        places = pods(one.place for one in self.endpoints)
        # The address of the Service is the socket that the client's listener is reached by.
        key = egress_key(socket_name(EGRESS))
        shown = [
            scope_at(one, key) if one.name == egress_key(f"{VIP}:80") else one
            for one in self.case.resources
        ]
        await self.envoy.run(shown, Surroundings(endpoints=places))

    @contextlib.asynccontextmanager
    async def changed(self, kind: str, name: str, change: Change) -> AsyncGenerator[None]:
        """Let an object be otherwise for a while."""
        (there,) = [
            one for one in self.written if (one["kind"], one["metadata"]["name"]) == (kind, name)
        ]
        other = copy.deepcopy(there)
        change(other)
        self.case.compiler.apply([Event(EventType.MODIFIED, made(other))])
        await self.show()
        try:
            yield
        finally:
            self.case.compiler.apply([Event(EventType.MODIFIED, made(there))])
            await self.show()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with compiled_envoy(tmp_path_factory.mktemp("e")) as envoy:
        made = Lab(envoy, [Endpoint(number) for number in range(1, 6)])
        async with serving_all(one.answer for one in made.endpoints) as places:
            for endpoint, place in zip(made.endpoints, places, strict=True):
                endpoint.place = place
            await made.show()
            yield made


def cookie_of(answer: Answer, name: str) -> str:
    """Return the cookie of a session as it was set, with its attributes; "" if it was not."""
    found = [one for one in answer.all("set-cookie") if one.startswith(f"{name}=")]
    assert len(found) <= 1, found
    return "".join(found)


async def test_a_client_stays_at_its_endpoint(lab: Lab) -> None:
    first = await lab.ask(FRONT, "/one")
    token = cookie_of(first, "one").partition(";")[0]
    found = {(await lab.ask(FRONT, "/one", headers={"cookie": token})).body for _ in range(MANY)}
    assert found == {first.body}
    assert {(await lab.ask(FRONT, "/one")).body for _ in range(MANY)} == {"1", "2"}


async def test_the_cookie_is_set_once_beside_those_of_the_application(lab: Lab) -> None:
    first = await lab.ask(FRONT, "/one")
    assert "own=1; Path=/" in first.all("set-cookie")
    token = cookie_of(first, "one").partition(";")[0]
    again = await lab.ask(FRONT, "/one", headers={"cookie": token})
    assert again.all("set-cookie") == ["own=1; Path=/"]


async def test_a_cookie_is_as_closed_as_can_be(lab: Lab) -> None:
    _, _, attributes = cookie_of(await lab.ask(FRONT, "/split"), "split").partition("; ")
    assert sorted(attributes.split("; ")) == ["HttpOnly", "Path=/split", "SameSite=Strict"]


async def test_a_permanent_cookie_has_its_age(lab: Lab) -> None:
    assert "Max-Age=3600" in cookie_of(await lab.ask(FRONT, "/older"), "older").split("; ")


async def test_a_session_stays_at_its_backend_as_long_as_weights_lead_elsewhere(lab: Lab) -> None:
    for _ in range(MANY):
        first = await lab.ask(FRONT, "/split")
        token = cookie_of(first, "split").partition(";")[0]
        answers = [
            await lab.ask(FRONT, "/split", headers={"cookie": f"a=1; {token}; b=2"})
            for _ in range(4)
        ]
        assert {one.body for one in answers} == {first.body}
        seen = lab.endpoints[int(first.body) - 1].asked[-1]["cookie"]
        assert seen.startswith("a=1; split=")
        assert seen.endswith("; b=2")


async def test_a_header_does_what_a_cookie_does(lab: Lab) -> None:
    for _ in range(MANY):
        first = await lab.ask(FRONT, "/header")
        token = {"x-session": first.header("x-session")}
        assert token["x-session"]
        again = [await lab.ask(FRONT, "/header", headers=token) for _ in range(4)]
        assert {one.body for one in again} == {first.body}
        assert {one.header("x-session") for one in again} == {""}


async def test_a_session_ends(lab: Lab) -> None:
    first = await lab.ask(FRONT, "/short")
    token = {"cookie": cookie_of(first, "short").partition(";")[0]}
    assert "Max-Age" not in cookie_of(first, "short")

    async def is_over() -> bool:
        return bool(cookie_of(await lab.ask(FRONT, "/short", headers=token), "short"))

    while not await is_over():
        pass


async def test_a_session_of_a_wildcard_host_is_kept(lab: Lab) -> None:
    for _ in range(MANY // 3):
        first = await lab.ask(FRONT, "/split", host="x.wild.test")
        token = {"cookie": cookie_of(first, "split").partition(";")[0]}
        for host in ("x.wild.test", "X.Wild.Test"):
            again = await lab.ask(FRONT, "/split", host=host, headers=token)
            assert (again.body, cookie_of(again, "split")) == (first.body, "")


@pytest.mark.parametrize("address", ["127.0.0.1:{other}", "10.0.0.1:80", "nonsense", ""])
async def test_a_forged_token_leads_nowhere_else(lab: Lab, address: str) -> None:
    written = address.format(other=lab.endpoints[4].place[1])
    token = base64.b64encode(written.encode()).decode()
    for ending in ("", ".0", ".00ff", ".xyz", ".0.99999999999999"):
        answer = await lab.ask(FRONT, "/split", headers={"cookie": f"split={token}{ending}"})
        assert answer.body in set("1234")


async def test_policy_holds_at_the_endpoint_of_a_session(lab: Lab) -> None:
    answer = await lab.ask(FRONT, "/refused")
    assert (answer.status, cookie_of(answer, "refused")) == (403, "")
    port = lab.endpoints[4].place[1]
    token = base64.b64encode(f"127.0.0.1:{port}".encode()).decode()
    again = await lab.ask(FRONT, "/refused", headers={"cookie": f"refused={token}.00"})
    assert again.status == 403
    assert lab.endpoints[4].asked == []


async def test_a_rule_that_cannot_keep_sessions_is_closed(lab: Lab) -> None:
    for wrong in ("name", "header", "path", "timeout"):
        assert (await lab.ask(FRONT, f"/wrong-{wrong}")).status == 500


def weights(path: str, *shares: int) -> Change:
    def change(route: dict[str, Any]) -> None:
        for rule in route["spec"]["rules"]:
            if rule["matches"][0]["path"]["value"] == path:
                for backend, share in zip(rule["backendRefs"], shares, strict=True):
                    backend["weight"] = share

    return change


def without(*numbers: int) -> Change:
    def change(slice_: dict[str, Any]) -> None:
        gone = [f"10.244.0.{number}" for number in numbers]
        slice_["endpoints"] = [e for e in slice_["endpoints"] if e["addresses"][0] not in gone]

    return change


@pytest.mark.parametrize("listener", [FRONT, EGRESS])
@pytest.mark.parametrize("path", ["/split", "/header"])
async def test_a_session_survives_that_its_backend_gets_no_more_new_clients(
    lab: Lab, listener: str, path: str
) -> None:
    first = await lab.ask(listener, path)
    name = path.removeprefix("/")
    token = (
        {"cookie": cookie_of(first, name).partition(";")[0]}
        if path == "/split"
        else {"x-session": first.header("x-session")}
    )
    shares = (0, 100) if first.body in "12" else (100, 0)
    async with lab.changed("HTTPRoute", "sessions", weights(path, *shares)):
        mine = {(await lab.ask(listener, path, headers=token)).body for _ in range(MANY)}
        others = {(await lab.ask(listener, path)).body for _ in range(MANY)}
    assert mine == {first.body}
    assert others == ({"3", "4"} if first.body in "12" else {"1", "2"})


async def test_a_session_at_an_endpoint_that_went_goes_on_at_another_of_its_backend(
    lab: Lab,
) -> None:
    first = await lab.ask(FRONT, "/split")
    token = {"cookie": cookie_of(first, "split").partition(";")[0]}
    name, rest = ("web-v1-1", "12") if first.body in "12" else ("web-v2-1", "34")
    async with lab.changed("EndpointSlice", name, without(int(first.body))):
        again = await lab.ask(FRONT, "/split", headers=token)
    assert (again.status, again.body) == (200, rest.replace(first.body, ""))
    assert cookie_of(again, "split")


async def test_a_session_at_a_backend_without_endpoints_begins_anew_elsewhere(lab: Lab) -> None:
    async with lab.changed("HTTPRoute", "sessions", weights("/split", 1, 0)):
        first = await lab.ask(FRONT, "/split")
        token = {"cookie": cookie_of(first, "split").partition(";")[0]}
    async with (
        lab.changed("HTTPRoute", "sessions", weights("/split", 0, 1)),
        lab.changed("EndpointSlice", "web-v1-1", without(1, 2)),
    ):
        again = await lab.ask(FRONT, "/split", headers=token)
    assert again.body in {"3", "4"}
    assert cookie_of(again, "split")


async def test_a_session_of_a_single_backend_outlives_that_another_one_is_tried(lab: Lab) -> None:
    def tried(route: dict[str, Any]) -> None:
        refs = route["spec"]["rules"][0]["backendRefs"]
        refs.append({"name": "web-v2", "port": 80, "weight": 99})

    first = await lab.ask(FRONT, "/one")
    token = {"cookie": cookie_of(first, "one").partition(";")[0]}
    async with lab.changed("HTTPRoute", "sessions", tried):
        again = {(await lab.ask(FRONT, "/one", headers=token)).body for _ in range(MANY)}
    assert again == {first.body}


async def test_listeners_and_clusters_stay_when_sessions_begin_and_end(lab: Lab) -> None:
    def none(route: dict[str, Any]) -> None:
        for rule in route["spec"]["rules"]:
            rule.pop("sessionPersistence", None)

    def others() -> list[tuple[str, str, str]]:
        kinds = (types.LISTENER, types.CLUSTER, types.ENDPOINTS, types.EXTENSION)
        return [(r.type_url, r.name, r.version) for r in lab.case.resources if r.type_url in kinds]

    before = others()
    async with lab.changed("HTTPRoute", "sessions", none):
        assert others() == before
