"""TLS that Ingresses pass on: what is told, and what closes."""

from __future__ import annotations

import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.core.objects import Broken, Object
from penstock.ingress.annotations import Options, options
from penstock.ingress.resources import Ingress
from penstock.meta.problems import Severity
from penstock.xds import types
from support.ingress_objects import NGINX, backend, ingress, ingress_class, path, rule
from support.objects import added, endpoint_slice, made, service
from support.pki import issue, tls_secret_raw

CILIUM = "ingress.cilium.io/tls-passthrough"
PASSED = {CILIUM: "true"}
LATER = "2026-02-01T00:00:00Z"


def asked(annotations: dict[str, str]) -> Options:
    found = ingress("web", rule("a.test", path()), annotations=annotations)
    assert isinstance(found, Ingress)
    return options(found)


def compiled(*things: Object | Broken) -> Compiler:
    compiler = Compiler()
    world = [ingress_class(), service("one", "10.96.1.1"), endpoint_slice("one", ["10.244.0.1"])]
    compiler.apply(added([*world, made(tls_secret_raw("cert", "shop", [issue("a.test")]))]))
    compiler.apply(added(things))
    assert compiler.failures == {}
    return compiler


def told(thing: Object | Broken, *beside: Object | Broken) -> list[tuple[str, str]]:
    found = problems_of(compiled(thing, *beside).db, thing)
    return [(one.path, one.message) for one in found]


@pytest.mark.parametrize(
    ("annotations", "passed"),
    [
        ({CILIUM: "enabled"}, True),
        ({CILIUM: "disabled"}, False),
        ({"io.cilium.ingress/tls-passthrough": "true"}, True),
        ({NGINX + "ssl-passthrough": "true"}, True),
        ({NGINX + "ssl-passthrough": "true", CILIUM: "false"}, False),
        ({}, False),
    ],
)
def test_it_is_asked_for_in_three_ways(annotations: dict[str, str], *, passed: bool) -> None:
    found = asked(annotations)
    assert found.passthrough is passed
    assert not found.closed
    assert found.problems == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whitelist-source-range", "10.0.0.0/8"),
        ("denylist-source-range", "10.0.0.0/8"),
        ("limit-rps", "5"),
        ("auth-url", "http://one.shop.svc/check"),
        ("canary", "true"),
    ],
)
def test_what_keeps_requests_out_closes(name: str, value: str) -> None:
    assert f"{name}: TLS is passed on" in asked(PASSED | {NGINX + name: value}).closed


def test_what_is_done_with_requests_is_without_effect() -> None:
    found = asked(
        PASSED
        | {
            NGINX + "rewrite-target": "/x",
            NGINX + "proxy-body-size": "8m",
            "ingress.cilium.io/request-timeout": "9s",
        }
    )
    assert not found.closed
    assert [one.message for one in found.problems] == ["TLS is passed on as it is"] * 3
    assert {one.severity for one in found.problems} == {Severity.WARNING}


def test_a_host_and_the_path_of_all_are_needed_and_the_rest_is_told() -> None:
    web = ingress(
        "web",
        rule("", path()),
        rule("a.test", path("/x"), path("/")),
        rule("b.test", path("/y")),
        annotations=PASSED,
        defaultBackend=backend(),
        tls=[{"hosts": ["a.test"], "secretName": "cert"}],
    )
    assert told(web) == [
        ("spec.defaultBackend", "TLS is passed on by its server name only"),
        ("spec.tls", "TLS is passed on and not ended here"),
        ("spec.rules[0].host", "TLS is passed on by host"),
        (
            "spec.rules[1].http.paths[0]",
            "all of the host goes to the backend of spec.rules[1].http.paths[1]",
        ),
        ("spec.rules[2]", "TLS is passed on to the backend of the path / only"),
    ]


def test_a_backend_that_is_not_there_is_told_at_its_place() -> None:
    web = ingress("web", rule("a.test", path("/", to=backend("none"))), annotations=PASSED)
    (only,) = told(web)
    assert only[0] == "spec.rules[0].http.paths[0]"
    assert "none" in only[1]


def test_the_younger_of_two_ingresses_is_told_that_it_has_not_the_host() -> None:
    tls = [{"hosts": ["a.test"], "secretName": "cert"}]
    passed = ingress("passed", rule("a.test", path()), annotations=PASSED)
    ended = ingress("ended", rule("a.test", path()), tls=tls, created=LATER)
    assert ("spec.tls[0]", "an older Ingress passes on TLS for a.test") in told(ended, passed)
    passed = ingress("passed", rule("a.test", path()), annotations=PASSED, created=LATER)
    ended = ingress("ended", rule("a.test", path()), tls=tls)
    assert ("spec.rules[0].host", "an older Ingress ends TLS for a.test") in told(passed, ended)


def test_endpoints_come_from_the_ingress_that_its_user_knows() -> None:
    web = ingress("web", rule("a.test", path()), annotations=PASSED)
    found = compiled(web).resources("n1")
    (only,) = (
        one for one in found if one.type_url == types.ENDPOINTS and one.name.startswith("stream|")
    )
    assert "Ingress shop/web spec.rules[0].http.paths[0]" in map(str, only.origins)
