"""What the official suite asks of requests since version 1.7, with the same outcome.

Source: Gateway API v1.7, conformance tests HTTPRouteRetryConnectionError,
HTTPRouteRetryWithRequestTimeout, HTTPRouteRetryWithBackendTimeout, HTTPRouteRuleOrder and
HTTPRouteMultipleRoutesAttachmentSameHostnameIntersection; besides what sessions make of
HTTPRouteBackendURLRewrite.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from penstock.compiler.compile import Compiler
from penstock.core.objects import Broken, Object
from support import objects
from support.compiled_envoy import CompiledEnvoy, Surroundings, compiled_envoy
from support.http_backend import http_backend, seen, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

Json = dict[str, Any]
FRONT = "gateway/shop/front/80"
OLDER, YOUNGER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def route(
    name: str, *rules: Json, parent: str = "front", since: str = OLDER, **spec: object
) -> Object | Broken:
    return objects.made({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": since},
        "spec": {"parentRefs": [{"name": parent}], "rules": list(rules), **spec},
    })  # fmt: skip


def rule(at: str, backend: str, kind: str = "PathPrefix", **more: object) -> Json:
    match = {"path": {"type": kind, "value": at}}
    return {"matches": [match], "backendRefs": [objects.backend_ref(backend)], **more}


def with_headers(made: Json, *names: str) -> Json:
    """Return the rule, for requests with headers, which are matched in this order."""
    (match,) = made["matches"]
    headers = [{"name": name, "value": "yes"} for name in names]
    return {**made, "matches": [{**match, "headers": headers}]}


RETRIES = route(
    "retries",
    rule("/halves", "halves", retry={"attempts": 100}),
    rule("/whole", "flaky", retry={"codes": [500], "attempts": 5}, timeouts={"request": "500ms"}),
    rule(
        "/each", "flaky", retry={"codes": [500], "attempts": 3},
        timeouts={"backendRequest": "500ms", "request": "15s"},
    ),
)  # fmt: skip


def seen_at(backend: str, path: str) -> Json:
    """Return a backendRef whose requests have another path."""
    rewrite = {"path": {"type": "ReplaceFullPath", "replaceFullPath": path}}
    filters = [{"type": "URLRewrite", "urlRewrite": rewrite}]
    return {**objects.backend_ref(backend), "filters": filters}


SESSION = route(
    "session",
    {
        "matches": [{"path": {"type": "PathPrefix", "value": "/session"}}],
        "backendRefs": [seen_at("one", "/of-one"), seen_at("two", "/of-two")],
        "sessionPersistence": {"cookie": {"name": "seat"}},
    },
)
ORDER = route(
    "order",
    with_headers(rule("/order", "one", "Exact"), "x-a", "x-b"),
    with_headers(rule("/order", "two", "Exact"), "x-b", "x-a"),
    rule("/lost", "nowhere", "Exact"),
    rule("/lost", "one", "Exact"),
)
PREFIX = rule("/path/prefix", "one")


def pair(parent: str, older: str, younger: str) -> list[Object | Broken]:
    """Return two routes of which the younger has the narrower hostname and broader paths."""
    wide = rule("/", "one"), with_headers(PREFIX, "header-b"), with_headers(PREFIX, "header-c")
    own = rule("/path", "two"), with_headers(rule("/", "two"), "header-a")
    return [
        route(f"wide-{parent}", *wide, parent=parent, hostnames=[older]),
        route(f"own-{parent}", *own, parent=parent, since=YOUNGER, hostnames=[younger]),
    ]


class Flaky:
    """An application that fails with 500 as often as the query says, each time after a while."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.path_qs] += 1
        if self.asked[request.path_qs] <= int(request.query["fail"]):
            await asyncio.sleep(float(request.query.get("after", "0")))
            return web.Response(status=500)
        return web.Response(text="here")


def compiled() -> Compiler:
    compiler = Compiler()
    exact, wildcard = (
        {"name": "http", "protocol": "HTTP", "port": 80, "hostname": hostname}
        for hostname in ("x.a.test", "*.a.test")
    )
    names = ("one", "two", "flaky", "halves")
    services = [
        thing
        for number, name in enumerate(names, 1)
        for thing in (
            objects.service(name, f"10.96.0.{number}"),
            objects.endpoint_slice(name, [f"10.244.0.{number}"]),
        )
    ]
    services[-1] = objects.endpoint_slice("halves", ["10.244.0.1", "10.244.0.9"])
    gateways = (
        objects.gateway("front"),
        objects.gateway("exact", [exact]),
        objects.gateway("wildcard", [wildcard]),
    )
    pairs = (*pair("exact", "*.a.test", "x.a.test"), *pair("wildcard", "*.test", "*.a.test"))
    routes = (RETRIES, ORDER, SESSION, *pairs)
    compiler.apply(objects.added([objects.gateway_class(), *gateways, *services, *routes]))
    assert compiler.failures == {}
    return compiler


class Lab:
    def __init__(self, envoy: CompiledEnvoy, flaky: Flaky) -> None:
        self.ask, self.flaky = envoy.ask, flaky


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    flaky = Flaky()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        async with (
            http_backend("one") as one,
            http_backend("two") as two,
            serving(flaky.answer) as failing,
            compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
        ):
            places = {
                "10.244.0.1": one, "10.244.0.2": two, "10.244.0.3": failing,
                "10.244.0.9": closed.getsockname(),
            }  # fmt: skip
            await envoy.run(compiled().resources("n1"), Surroundings(endpoints=places))
            yield Lab(envoy, flaky)


async def test_connections_that_are_refused_are_tried_until_one_is_not(lab: Lab) -> None:
    answers = [await lab.ask(FRONT, "/halves") for _ in range(20)]
    assert {(one.status, seen(one).name) for one in answers} == {(200, "one")}


@pytest.mark.parametrize(
    ("at", "status", "attempts"),
    [
        ("/whole?fail=1", 200, 2),
        ("/whole?fail=2&after=0.3", 504, 2),
        ("/whole?fail=2&after=1", 504, 1),
        ("/each?fail=2&after=0.1", 200, 3),
    ],
)
async def test_attempts_go_on_as_long_as_limits_let_them(
    lab: Lab, at: str, status: int, attempts: int
) -> None:
    assert (await lab.ask(FRONT, at)).status == status
    assert lab.flaky.asked[at] == attempts


async def test_of_equal_matches_the_first_rule_counts(lab: Lab) -> None:
    answer = await lab.ask(FRONT, "/order", headers={"x-a": "yes", "x-b": "yes"})
    assert seen(answer).name == "one"


async def test_a_first_rule_that_leads_nowhere_is_not_passed_over(lab: Lab) -> None:
    assert (await lab.ask(FRONT, "/lost")).status == 500


@pytest.mark.parametrize("gateway", ["exact", "wildcard"])
@pytest.mark.parametrize(
    ("at", "headers", "expected"),
    [
        ("/path/prefix/longer", (), "two"),
        ("/path/prefix/longer", ("header-b",), "two"),
        ("/other", ("header-a", "header-b"), "two"),
        ("/other", ("header-b",), "one"),
        ("/other", (), "one"),
    ],
)
async def test_the_narrower_hostname_of_its_own_goes_before_age_path_and_headers(
    lab: Lab, gateway: str, at: str, headers: tuple[str, ...], expected: str
) -> None:
    given = dict.fromkeys(headers, "yes")
    answer = await lab.ask(f"gateway/shop/{gateway}/80", at, host="x.a.test", headers=given)
    assert seen(answer).name == expected


async def test_a_session_keeps_its_backend_whose_path_is_its_own(lab: Lab) -> None:
    found: dict[str, str] = {}
    for _ in range(40):
        answer = await lab.ask(FRONT, "/session")
        found[seen(answer).name] = answer.header("set-cookie").partition(";")[0]
    assert set(found) == {"one", "two"}
    for name, cookie in found.items():
        again = [await lab.ask(FRONT, "/session", headers={"cookie": cookie}) for _ in range(10)]
        assert {(seen(one).name, seen(one).path) for one in again} == {(name, f"/of-{name}")}
