"""What the objects of golden cases do to real requests at a Gateway."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Hashable
from typing import TypeVar

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from penstock.compiler.compile import Compiler
from penstock.core.events import Event, EventType
from penstock.envoy.scope import HIDDEN_HEADERS, SCOPE_HEADER
from penstock.gatewayapi.resources import HTTPRoute
from penstock.lab import echo
from penstock.lab.echo_messages import Whoami
from support import golden, objects
from support.compiled_envoy import (
    ROUTE_HEADER,
    CompiledEnvoy,
    Place,
    Surroundings,
    compiled_envoy,
    socket_name,
)
from support.http_backend import http_backend, seen
from support.raw_http import Answer, kept_open

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = "gateway/shop/front/80"
MANY = 400
CLOSE = 0.07
"""Four standard deviations of a share of 10 % among so many requests."""

K = TypeVar("K", bound=Hashable)


class Lab:
    def __init__(self, envoy: CompiledEnvoy, around: Surroundings) -> None:
        self.envoy = envoy
        self.around = around
        self.ask = envoy.ask

    async def show(self, case: str) -> None:
        await self.envoy.run(golden.compiled(case).resources, self.around)

    async def count(self, path: str, kind: Callable[[Answer], K], host: str) -> Counter[K]:
        """Return how many of MANY requests got which kind of answer."""
        found: Counter[K] = Counter()
        for _ in range(MANY // 20):
            answers = await asyncio.gather(*(self.ask(FRONT, path, host=host) for _ in range(20)))
            found.update(map(kind, answers))
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("one") as one,
        http_backend("two") as two,
        compiled_envoy(tmp_path_factory.mktemp("e")) as envoy,
    ):
        yield Lab(envoy, Surroundings(endpoints={"10.244.0.1": one, "10.244.0.2": two}))


def _by(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.header(ROUTE_HEADER)


# Matches


@pytest.mark.parametrize(
    ("request_", "route"),
    [
        (("GET", "/p", {}), "shop/kinds/4/0"),
        (("GET", "/p?x=1", {}), "shop/kinds/4/0"),
        (("GET", "/p/", {}), "shop/kinds/1/0"),
        (("GET", "/p/x", {}), "shop/kinds/1/0"),
        (("GET", "/px", {}), "shop/kinds/0/0"),
        (("GET", "/P", {}), "shop/kinds/0/0"),
        (("GET", "/p/longer", {}), "shop/kinds/2/0"),
        (("GET", "/p/longer/still", {}), "shop/kinds/2/0"),
        (("GET", "/p/longerer", {}), "shop/kinds/1/0"),
        (("GET", "/p/42", {}), "shop/kinds/3/0"),
        (("GET", "/p/42?x", {}), "shop/kinds/3/0"),
        (("GET", "/p/42x", {}), "shop/kinds/1/0"),
        (("POST", "/x", {}), "shop/kinds/5/0"),
        (("POST", "/x", {"X-One": "1"}), "shop/kinds/5/0"),
        (("POST", "/x", {"x-one": "1", "x-two": "b"}), "shop/kinds/5/1"),
        (("POST", "/x", {"x-one": "1", "x-two": "ab"}), "shop/kinds/5/0"),
        (("GET", "/x", {"x-one": "1"}), "shop/kinds/5/2"),
        (("GET", "/x", {"x-one": "11"}), "shop/kinds/0/0"),
        (("GET", "/x?q=1&r=abc", {}), "shop/kinds/5/3"),
        (("GET", "/x?r=abc&q=1", {}), "shop/kinds/5/3"),
        (("GET", "/x?q=1&r=ABC", {}), "shop/kinds/0/0"),
        (("GET", "/x?q=1", {}), "shop/kinds/0/0"),
    ],
    ids=str,
)
async def test_the_strongest_match_decides(
    lab: Lab, request_: tuple[str, str, dict[str, str]], route: str
) -> None:
    await lab.show("gateway-matches")
    method, path, headers = request_
    assert _by(await lab.ask(FRONT, path, method=method, headers=headers)) == (200, route)


# Hosts


@pytest.mark.parametrize(
    ("host", "path", "route"),
    [
        ("a.test", "/a", "shop/exact/0/0"),
        ("a.test:80", "/a", "shop/exact/0/0"),
        ("a.test.", "/a", "shop/exact/0/0"),
        ("A.Test", "/a", "shop/exact/0/0"),
        ("A.TEST:80", "/a", "shop/exact/0/0"),
        ("a.test", "/w", "shop/any-host/0/0"),
        ("A.test", "/w", "shop/any-host/0/0"),
        ("x.wild.test", "/w", "shop/wildcard/0/0"),
        ("y.wild.test", "/w", "shop/wildcard/0/0"),
        ("Y.Wild.Test:1234", "/w", "shop/wildcard/0/0"),
        ("z.y.wild.test", "/w", "shop/wildcard/0/0"),
        ("y.wild.test", "/a", "shop/any-host/0/0"),
        ("wild.test", "/w", "shop/any-host/0/0"),
        ("other.test", "/o", "shop/elsewhere/0/0"),
        ("nobody.test", "/a", "shop/any-host/0/0"),
        ("*", "/a", "shop/any-host/0/0"),
        ("[::1]:80", "/a", "shop/any-host/0/0"),
    ],
)
async def test_a_host_without_a_scope_of_its_own_goes_by_the_wildcards(
    lab: Lab, host: str, path: str, route: str
) -> None:
    await lab.show("gateway-hosts")
    assert _by(await lab.ask(FRONT, path, host=host)) == (200, route)


async def test_a_listener_for_one_host_has_nothing_for_others(lab: Lab) -> None:
    await lab.show("gateway-hosts")
    elsewhere = "gateway/shop/front/8080"
    found = await lab.ask(elsewhere, "/o", host="other.test:8080")
    assert _by(found) == (200, "shop/elsewhere/0/0")
    for host in ("a.test", "x.wild.test", "nobody.test", "*"):
        assert (await lab.ask(elsewhere, "/o", host=host)).status == 404


@pytest.mark.parametrize(
    "spoofed",
    ["gw|shop/front/80|a.test", "gw|shop/front/8080|other.test", "gw|shop/front/80|*", ""],
)
async def test_a_client_cannot_choose_its_scope(lab: Lab, spoofed: str) -> None:
    await lab.show("gateway-hosts")
    for name in (SCOPE_HEADER, SCOPE_HEADER.title()):
        found = await lab.ask(FRONT, "/w", host="y.wild.test", headers={name: spoofed})
        assert _by(found) == (200, "shop/wildcard/0/0")
        assert seen(found).all(SCOPE_HEADER) == []
    nowhere = await lab.ask(
        "gateway/shop/front/8080", "/a", headers={SCOPE_HEADER: spoofed, "x": "y"}
    )
    assert nowhere.status == 404


async def test_hidden_headers_never_reach_the_application(lab: Lab) -> None:
    await lab.show("filters")
    sent: dict[str, str] = dict.fromkeys(HIDDEN_HEADERS, "10.244.0.2:80")
    for path in ("/host", "/prefix/x", "/base/x"):
        found = seen(await lab.ask(FRONT, path, host="rewrites.test", headers=sent))
        assert [name for name, _ in found.headers if name in HIDDEN_HEADERS] == []


async def test_open_connections_outlive_the_last_route_for_wildcards(lab: Lab) -> None:
    exact = objects.http_route(
        "exact", parent={"name": "front"}, backends=[("web", 1)], hostnames=["a.test"]
    )
    wild = objects.http_route("wild", parent={"name": "front"}, backends=[("web", 1)])
    service = [objects.service("web", "10.96.0.1"), objects.endpoint_slice("web", ["10.244.0.1"])]
    compiler = Compiler()
    compiler.apply(
        objects.added([objects.gateway_class(), objects.gateway("front"), *service, exact, wild])
    )
    await lab.envoy.run(compiler.resources("n1"), lab.around)
    async with kept_open(lab.envoy.folder / socket_name(FRONT)) as connection:
        request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
        assert _by(await connection.ask(request)) == (200, "shop/exact/0/0")
        compiler.apply([Event(EventType.DELETED, wild)])
        await lab.envoy.run(compiler.resources("n1"), lab.around)
        assert _by(await connection.ask(request)) == (200, "shop/exact/0/0")


# Filters


async def test_header_modifiers_are_literal(lab: Lab) -> None:
    await lab.show("filters")
    answer = await lab.ask(
        FRONT, host="headers.test", headers={"x-set": "a", "X-Add": "a", "x-remove": "a"}
    )
    request = seen(answer)
    assert request.all("x-set") == ["100%"]
    assert ",".join(request.all("x-add")) == "a,%REQ(:path)%"
    assert request.all("x-remove") == []
    assert request.all("x-backend") == ["web"]
    assert answer.all("x-set") == ["50%"]
    assert ",".join(answer.all("x-add")) == "own,b"
    assert answer.all("x-remove") == []


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/scheme/x?q=1", 301, "https://redirects.test/scheme/x?q=1"),
        ("/host/x", 302, "http://other.test/host/x"),
        ("/port/x?q=1", 308, "http://redirects.test:8443/port/x?q=1"),
        ("/full/x?q=1", 303, "http://redirects.test/new?q=1"),
        ("/prefix", 307, "http://redirects.test/new"),
        ("/prefix/", 307, "http://redirects.test/new/"),
        ("/prefix/x?q=1", 307, "http://redirects.test/new/x?q=1"),
        ("/base", 302, "http://redirects.test/"),
        ("/base/x?q=1", 302, "http://redirects.test/x?q=1"),
    ],
)
async def test_redirects(lab: Lab, path: str, status: int, location: str) -> None:
    await lab.show("filters")
    answer = await lab.ask(FRONT, path, host="redirects.test")
    assert (answer.status, answer.header("location")) == (status, location)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/host", "http://other.test:8080/host"),
        ("/full", "http://redirects.test:8080/new"),
        ("/port", "http://redirects.test:8443/port"),
        ("/scheme", "https://redirects.test:443/scheme"),
    ],
)
async def test_redirects_lead_to_the_port_of_the_listener_or_of_the_scheme(
    lab: Lab, path: str, location: str
) -> None:
    await lab.show("filters")
    answer = await lab.ask("gateway/shop/front/8080", path, host="redirects.test:8080")
    assert answer.header("location") == location


@pytest.mark.parametrize(
    ("path", "host", "arrives"),
    [
        ("/host/x?q=1", "other.test", "/host/x?q=1"),
        ("/full/x?q=1", "rewrites.test", "/new?q=1"),
        ("/full", "rewrites.test", "/new"),
        ("/prefix", "rewrites.test", "/new"),
        ("/prefix?q=1", "rewrites.test", "/new?q=1"),
        ("/prefix/", "rewrites.test", "/new/"),
        ("/prefix/x/y?q=1", "rewrites.test", "/new/x/y?q=1"),
        ("/base", "rewrites.test", "/"),
        ("/base/", "rewrites.test", "/"),
        ("/base?q=/a", "rewrites.test", "/?q=/a"),
        ("/base/x?q=1", "rewrites.test", "/x?q=1"),
        ("/baseed", "rewrites.test", "/below/baseed"),
        ("/x", "rewrites.test", "/below/x"),
        ("/", "rewrites.test", "/below/"),
    ],
)
async def test_rewrites(lab: Lab, path: str, host: str, arrives: str) -> None:
    await lab.show("filters")
    request = seen(await lab.ask(FRONT, path, host="rewrites.test"))
    assert (request.path, request.all("host")) == (arrives, [host])


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/full/original", {("/new", "backends.test")}),
        ("/prefix/original", {("/new/original", "other.test")}),
        ("/hosts/x", {("/hosts/x", "one.test"), ("/hosts/x", "backends.test"), None}),
        ("/apart/x?q=1", {("/a/x?q=1", "backends.test"), ("/b/x?q=1", "other.test")}),
    ],
)
async def test_backends_have_rewrites_of_their_own(
    lab: Lab, path: str, arrives: set[tuple[str, str] | None]
) -> None:
    def came(answer: Answer) -> tuple[str, str] | None:
        if answer.status != 200:
            return None
        (host,) = seen(answer).all("host")
        return seen(answer).path, host

    await lab.show("filters")
    found = await lab.count(path, came, "backends.test")
    assert set(found) == arrives
    if path.startswith("/apart"):
        assert abs(found["/a/x?q=1", "backends.test"] / MANY - 0.75) < CLOSE * 1.5


async def test_a_rule_with_a_filter_that_is_not_served_answers_500(lab: Lab) -> None:
    await lab.show("filters")
    assert (await lab.ask(FRONT, "/unserved/x", host="rewrites.test")).status == 500


# Weights


def _name(answer: Answer) -> str:
    return seen(answer).name if answer.status == 200 else str(answer.status)


async def test_weights_share_requests(lab: Lab) -> None:
    await lab.show("weights")
    found = await lab.count("/canary", _name, "a.test")
    assert set(found) == {"one", "two"}
    assert abs(found["two"] / MANY - 0.1) < CLOSE
    assert set(await lab.count("/one-of-two", _name, "a.test")) == {"one"}


async def test_the_share_of_an_invalid_backend_is_answered_with_500(lab: Lab) -> None:
    await lab.show("weights")
    found = await lab.count("/invalid-share", _name, "a.test")
    assert set(found) == {"one", "500"}
    assert abs(found["500"] / MANY - 0.25) < CLOSE * 1.5


async def test_no_valid_backend_is_500_and_none_with_a_weight_is_503(lab: Lab) -> None:
    await lab.show("weights")
    for status, paths in {
        500: ("/none", "/invalid-only"),
        503: ("/all-zero", "/single-zero"),
    }.items():
        for path in paths:
            assert (await lab.ask(FRONT, path)).status == status, path


async def test_one_service_twice_has_both_shares(lab: Lab) -> None:
    await lab.show("weights")
    found = await lab.count("/twice", lambda a: "".join(seen(a).all("x-second")), "a.test")
    assert set(found) == {"", "yes"}
    assert abs(found["yes"] / MANY - 2 / 3) < CLOSE * 1.5


async def test_a_change_of_weight_is_one_resource_and_takes_effect(lab: Lab) -> None:
    case = golden.compiled("weights")
    await lab.envoy.run(case.resources, lab.around)
    raw = next(one for one in case.objects if one.ref.kind == "HTTPRoute")
    assert isinstance(raw, HTTPRoute)
    rule, *others = raw.spec.rules
    swapped = tuple(
        msgspec.structs.replace(backend, weight=weight)
        for backend, weight in zip(rule.backend_refs, (0, 100), strict=True)
    )
    rules = (msgspec.structs.replace(rule, backend_refs=swapped), *others)
    changed = msgspec.structs.replace(raw, spec=msgspec.structs.replace(raw.spec, rules=rules))
    delta = case.compiler.apply([Event(EventType.MODIFIED, changed)])[0].delta
    assert ([str(one.key) for one in delta.upserts], delta.removals) == (["Runtime penstock"], ())
    lab.envoy.recorder.accepted.clear()
    await lab.envoy.run(case.resources, lab.around)
    assert lab.envoy.recorder.accepted == ["Runtime penstock"]
    assert await lab.count("/canary", _name, "a.test") == {"two": MANY}


# Protocols


async def test_an_application_with_h2c_is_spoken_to_in_http2(lab: Lab) -> None:
    server = echo.Server(Whoami.from_environment({}))
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: echo.Connection(server), "127.0.0.1", 0)
    try:
        place: Place = ("127.0.0.1", listening.sockets[0].getsockname()[1])
        case = golden.compiled("h2c")
        await lab.envoy.run(case.resources, Surroundings(endpoints={"10.244.0.1": place}))
        answer = await lab.ask(FRONT, "/x")
        await lab.envoy.run([])
    finally:
        listening.close()
    found = msgspec.json.decode(answer.body)
    assert (answer.status, found["protocol"], found["path"]) == (200, "HTTP/2", "/x")


# Upgrades


async def test_websockets_pass(lab: Lab) -> None:
    await lab.show("gateway-hosts")
    connector = aiohttp.UnixConnector(path=str(lab.envoy.folder / socket_name(FRONT)))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect("http://a.test/websocket") as socket,
    ):
        await socket.send_str("me")
        assert await socket.receive_str() == "me too"
