"""What Ingresses do to real requests: the scenarios of the conformance suite, and annotations.

Source: kubernetes-sigs/ingress-controller-conformance, features default_backend, host_rules,
ingress_class, load_balancing and path_rules, in own words.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509

from penstock.compiler.compile import Compiler
from penstock.compiler.statuses import status_of
from penstock.core.objects import Broken, Object
from support.compiled_envoy import CompiledEnvoy, Place, Surroundings, compiled_envoy, socket_name
from support.http_backend import http_backend, seen, serving
from support.ingress_objects import CILIUM, NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, made, service
from support.pki import issue, tls_secret_raw
from support.raw_http import Answer
from support.tls_client import HandshakeRefusedError, tls_connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN, SECURE = "gateway/~ingress/penstock~/80", "gateway/~ingress/penstock~/443"
NAMES = ("one", "two")
STATIC: tuple[Object | Broken, ...] = (
    ingress_class(),
    *(service(name, f"10.96.1.{number}") for number, name in enumerate(NAMES, 1)),
    *(endpoint_slice(name, [f"10.244.0.{number}"]) for number, name in enumerate(NAMES, 1)),
)


class Lab:
    def __init__(self, envoy: CompiledEnvoy, places: dict[str, Place]) -> None:
        self.envoy, self.around = envoy, Surroundings(endpoints=places)

    async def show(self, *objects: Object | Broken) -> Compiler:
        compiler = Compiler()
        compiler.apply(added([*STATIC, *objects]))
        assert compiler.failures == {}
        await self.envoy.run(compiler.resources("n1"), self.around)
        return compiler

    async def ask(
        self, at: str, host: str = "a.test", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Return the status and which backend answered."""
        answer = await self.envoy.ask(PLAIN, at, host=host, headers=headers)
        return answer.status, seen(answer).name if answer.status == 200 else ""

    async def plain(self, at: str, **more: str) -> Answer:
        return await self.envoy.ask(PLAIN, at, **more)  # type: ignore[arg-type]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Lab]:
    async with (
        http_backend("one") as one,
        http_backend("two") as two,
        compiled_envoy(tmp_path_factory.mktemp("e"), drain=1) as envoy,
    ):
        yield Lab(envoy, {"10.244.0.1": one, "10.244.0.2": two})


async def _answers(lab: Lab, at: str, expected: str, host: str = "a.test") -> None:
    wanted = (200, expected) if expected else (404, "")
    assert await lab.ask(at, host) == wanted


# default_backend, load_balancing


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("host", ["my-host", ""])
async def test_the_default_backend_answers_whatever_no_rule_has(
    lab: Lab, method: str, host: str
) -> None:
    await lab.show(ingress("default", defaultBackend=backend()))
    headers = {"content-length": "0", "user-agent": "teller"}
    answer = await lab.envoy.ask(PLAIN, "/some/path", host=host, method=method, headers=headers)
    assert (answer.status, seen(answer).name) == (200, "one")
    names = ("content-length", "content-type", "date", "server")
    assert all(answer.header(name) for name in names)
    assert seen(answer).all("user-agent") == ["teller"]


async def test_all_endpoints_of_a_service_are_asked(lab: Lab) -> None:
    both = endpoint_slice("one", ["10.244.0.1", "10.244.0.2"])
    await lab.show(both, ingress("default", defaultBackend=backend()))
    answers = await asyncio.gather(*(lab.ask("/") for _ in range(20)))
    assert {name for _, name in answers} == set(NAMES)


async def test_a_service_that_grows_to_ten_endpoints_has_requests_at_each(lab: Lab) -> None:
    names = [f"pod-{number}" for number in range(10)]
    addresses = [f"10.244.1.{number}" for number in range(1, 11)]
    default = ingress("default", defaultBackend=backend())
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(http_backend(name)) for name in names]
        grown = Lab(lab.envoy, dict(zip(addresses, found, strict=True)))
        await grown.show(endpoint_slice("one", addresses[:1]), default)
        assert await grown.ask("/") == (200, "pod-0")
        await grown.show(endpoint_slice("one", addresses), default)
        answers = await asyncio.gather(*(grown.ask("/") for _ in range(100)))
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers} == set(names)


# host_rules


HOSTS = ingress(
    "hosts", rule("*.foo.com", path("/")), rule("bar.com", path("/", to=backend("two")))
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("bar.foo.com", "one"),
        ("BAR.foo.com:8080", "one"),
        ("baz.bar.foo.com", ""),
        ("foo.com", ""),
        ("bar.com", "two"),
        ("x.bar.com", ""),
        ("other.test", ""),
    ],
)
async def test_a_host_is_exact_and_a_wildcard_is_one_label(
    lab: Lab, host: str, expected: str
) -> None:
    await lab.show(HOSTS)
    await _answers(lab, "/", expected, host)


async def test_a_port_may_be_given_by_its_name(lab: Lab) -> None:
    await lab.show(ingress("named", rule("a.test", path("/", to=backend("two", "http")))))
    await _answers(lab, "/x", "two")


async def test_a_port_or_service_that_does_not_exist_takes_its_path_only(lab: Lab) -> None:
    paths = [path("/p", to=backend("two", "none")), path("/s", to=backend("none")), path("/")]
    await lab.show(ingress("lost", rule("a.test", *paths)))
    assert [await lab.ask(one) for one in ("/p", "/s", "/")] == [(500, ""), (500, ""), (200, "one")]


async def test_a_host_is_served_with_its_certificate_and_plain_requests_are_redirected(
    lab: Lab,
) -> None:
    secret = made(tls_secret_raw("cert", "shop", [issue("foo.bar.com")]))
    tls = [{"hosts": ["foo.bar.com"], "secretName": "cert"}]
    lost = [{"hosts": ["lost.test"], "secretName": "missing"}]
    rules = [rule("foo.bar.com", path()), rule("lost.test", path()), rule("plain.test", path())]
    await lab.show(secret, ingress("secure", *rules, tls=tls + lost))
    at = lab.envoy.folder / socket_name(SECURE)
    async with tls_connection(at, "foo.bar.com") as connection:
        shown = x509.load_der_x509_certificate(connection.certificate)
        assert seen(await connection.ask("foo.bar.com", "/")).name == "one"
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["foo.bar.com"]
    with pytest.raises(HandshakeRefusedError):
        async with tls_connection(at, "lost.test"):
            pass
    answer = await lab.plain("/x?y=1", host="foo.bar.com")
    assert (answer.status, answer.header("location")) == (308, "https://foo.bar.com/x?y=1")
    assert await lab.ask("/", "plain.test") == (200, "one")


# path_rules


RULES = ingress(
    "paths",
    rule("exact.test", path("/foo", "Exact"), path("/bar/", "Exact")),
    rule("prefix.test", path("/foo"), path("/aaa/bbb"), path("/slash/")),
    rule("both.test", path("/foo", "Exact"), path("/foo", to=backend("two"))),
    rule("long.test", path("/aaa"), path("/aaa/bbb", to=backend("two"))),
    rule("loose.test", path("/foo", "ImplementationSpecific")),
    rule("root.test", path("/"), path("/aaa", to=backend("two"))),
)


@pytest.mark.parametrize(
    ("host", "at", "expected"),
    [
        ("exact.test", "/foo", "one"),
        ("exact.test", "/bar", ""),
        ("exact.test", "/bar/", "one"),
        ("exact.test", "/FOO", ""),
        ("exact.test", "/foo/", ""),
        ("exact.test", "/foo/bar", ""),
        ("prefix.test", "/foo", "one"),
        ("prefix.test", "/foo/", "one"),
        ("prefix.test", "/foo/bar", "one"),
        ("prefix.test", "/foobar", ""),
        ("prefix.test", "/FOO", ""),
        ("prefix.test", "/aaa/bbb", "one"),
        ("prefix.test", "/aaa/bbbxyz", ""),
        ("prefix.test", "/aaa", ""),
        ("prefix.test", "/slash", "one"),
        ("prefix.test", "/slash/x", "one"),
        ("both.test", "/foo", "one"),
        ("both.test", "/foo/", "two"),
        ("long.test", "/aaa/bbb", "two"),
        ("long.test", "/aaa/bbb/ccc", "two"),
        ("long.test", "/aaa/ccc", "one"),
        ("root.test", "/x", "one"),
        ("root.test", "/aaa/x", "two"),
        ("loose.test", "/foo/x", "one"),
        ("loose.test", "/foox", ""),
    ],
)
async def test_paths_are_compared_by_element(lab: Lab, host: str, at: str, expected: str) -> None:
    await lab.show(RULES)
    await _answers(lab, at, expected, host)


# ingress_class


async def test_an_ingress_of_another_class_is_left_alone(lab: Lab) -> None:
    foreign = ingress("foreign", rule("a.test", path()), ingressClassName="other")
    own = ingress("own", rule("b.test", path()))
    compiler = await lab.show(ingress_class("other", "example.com/other"), foreign, own)
    assert await lab.ask("/", "a.test") == (404, "")
    assert status_of(compiler.db, foreign, lambda _: None) is None
    status = status_of(compiler.db, own, lambda _: None)
    assert status is not None
    assert status["loadBalancer"]["ingress"]


async def test_of_two_ingresses_with_one_path_the_older_has_it(lab: Lab) -> None:
    new = ingress("a", rule("a.test", path()), created="2026-02-01T00:00:00Z")
    old = ingress("b", rule("a.test", path("/", to=backend("two")), path("/x")))
    await lab.show(new, old)
    assert [await lab.ask(one) for one in ("/", "/x")] == [(200, "two"), (200, "one")]


# Annotations


async def test_a_rewrite_replaces_the_prefix_or_the_whole_path(lab: Lab) -> None:
    captured = path("/shop(/|$)(.*)", "ImplementationSpecific")
    prefix = ingress("p", rule("a.test", captured), annotations={NGINX + "rewrite-target": "/$2"})
    whole = ingress("w", rule("b.test", path("/x")), annotations={NGINX + "rewrite-target": "/y"})
    await lab.show(prefix, whole)
    for host, at, expected in (
        ("a.test", "/shop/a/b?q=1", "/a/b?q=1"),
        ("a.test", "/shop", "/"),
        ("b.test", "/x/z", "/y"),
    ):
        answer = await lab.plain(at, host=host)
        assert seen(answer).path == expected, at


async def test_what_keeps_clients_out_and_is_not_served_closes_the_rules(lab: Lab) -> None:
    for name in ("auth-url", "auth-type", "limit-connections", "server-snippet"):
        closed = ingress("c", rule("a.test", path("/x")), annotations={NGINX + name: "10.0.0.0/8"})
        await lab.show(closed, ingress("open", rule("a.test", path())))
        assert [await lab.ask(one) for one in ("/x", "/")] == [(500, ""), (200, "one")], name


async def test_a_canary_is_chosen_by_header_then_cookie_then_weight(lab: Lab) -> None:
    wanted = {
        "canary": "true",
        "canary-by-header": "x-canary",
        "canary-by-cookie": "canary",
        "canary-weight": "100",
    }
    annotations = {NGINX + name: value for name, value in wanted.items()}
    canary = ingress("c", rule("a.test", path("/", to=backend("two"))), annotations=annotations)
    await lab.show(ingress("main", rule("a.test", path())), canary)
    for headers, expected in (
        ({}, "two"),
        ({"x-canary": "never"}, "one"),
        ({"x-canary": "always"}, "two"),
        ({"cookie": "x=1; canary=never"}, "one"),
        ({"cookie": "canary=never; x=1", "x-canary": "always"}, "two"),
        ({"cookie": "xcanary=never"}, "two"),
    ):
        assert await lab.ask("/", headers=headers) == (200, expected), headers


async def test_cors_is_answered_for_the_origins_that_are_allowed(lab: Lab) -> None:
    wanted = {"enable-cors": "true", "cors-allow-origin": "https://ok.test"}
    annotations = {NGINX + name: value for name, value in wanted.items()}
    await lab.show(ingress("cors", rule("a.test", path()), annotations=annotations))
    for origin, allowed in (("https://ok.test", "https://ok.test"), ("https://bad.test", "")):
        headers = {"origin": origin, "access-control-request-method": "PUT"}
        answer = await lab.envoy.ask(PLAIN, "/", method="OPTIONS", headers=headers)
        assert answer.header("access-control-allow-origin") == allowed


STRANGE = ("/a?b", "/a#b", "/a b", "/ä", "//", "/%zz", "/a/../b", "/\\1", "/a\tb")


async def test_envoy_takes_whatever_is_written(lab: Lab) -> None:
    odd: list[Object | Broken] = []
    for number, value in enumerate(STRANGE):
        kinds = ("Exact", "Prefix", "ImplementationSpecific")
        paths = [path(value, kind) for kind in kinds]
        for name, text in (("use-regex", "true"), ("rewrite-target", value), ("x", "y")):
            made_ = ingress(
                f"i{number}-{name}", rule("a.test", *paths), annotations={NGINX + name: text}
            )
            odd.append(made_)
    wanted = {"canary": "true", "canary-by-header": "x", "canary-by-header-value": "ä\n"}
    annotations = {NGINX + name: value for name, value in wanted.items()}
    canary = ingress("canary", rule("b.test", path(to=backend("two"))), annotations=annotations)
    await lab.show(*odd, canary, ingress("main", rule("b.test", path())))
    assert await lab.ask("/", "b.test") == (200, "one")


@pytest.mark.parametrize(
    "annotation", [{CILIUM + "request-timeout": "100ms"}, {NGINX + "proxy-read-timeout": "1"}]
)
async def test_limits_of_time_are_kept(lab: Lab, annotation: dict[str, str]) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await never.wait()
        return web.Response(text="here")

    async with serving(silent) as place:
        slow = Lab(lab.envoy, {"10.244.0.1": place})
        await slow.show(ingress("slow", rule("a.test", path()), annotations=annotation))
        assert (await slow.plain("/quick")).status == 200
        assert (await slow.plain("/slow")).status == 504


async def test_a_session_stays_at_its_pod_and_survives_a_canary(lab: Lab) -> None:
    affinity = {
        f"{NGINX}affinity": "cookie",
        f"{NGINX}session-cookie-name": "seat",
        f"{NGINX}session-cookie-samesite": "Lax",
        f"{NGINX}session-cookie-max-age": "60",
    }
    main = ingress("a", rule("a.test", path("/a")), annotations=affinity)
    await lab.show(main)
    first = await lab.plain("/a")
    token, *attributes = first.header("set-cookie").split("; ")
    assert token.startswith("seat=")
    assert {"Max-Age=60", "Path=/a", "SameSite=Lax", "HttpOnly"} == set(attributes)
    canary = {f"{NGINX}canary": "true", f"{NGINX}canary-weight": "100"}
    to_two = ingress("b", rule("a.test", path("/a", to=backend("two"))), annotations=canary)
    await lab.show(main, to_two)
    assert await lab.ask("/a") == (200, "two")
    assert await lab.ask("/a", headers={"cookie": token}) == (200, "one")
