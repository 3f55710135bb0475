"""Annotations that let requests pass or not."""

from __future__ import annotations

import pytest

from penstock.ingress.annotations import Options, options
from penstock.ingress.resources import Ingress
from penstock.ir.route import RateLimit, ServicePort, Subrequest
from penstock.meta.names import NamespacedName
from support.ingress_objects import NGINX, backend, ingress


def asked(**given: str) -> Options:
    annotations = {NGINX + name.replace("_", "-"): value for name, value in given.items()}
    found = ingress("web", annotations=annotations, defaultBackend=backend())
    assert isinstance(found, Ingress)
    return options(found)


def test_sources_are_networks_each_once() -> None:
    found = asked(
        whitelist_source_range="10.0.0.1/8, 192.0.2.7,10.0.0.0/8", denylist_source_range="::1"
    )
    assert found.guards.sources == ("10.0.0.0/8", "192.0.2.7/32")
    assert found.guards.denied_sources == ("::1/128",)
    assert not found.closed


def test_sources_that_are_everybody_are_no_limit() -> None:
    assert asked(whitelist_source_range="0.0.0.0/0,::/0").guards.sources == ()
    assert asked(whitelist_source_range="0.0.0.0/0").guards.sources == ("0.0.0.0/0",)


def test_a_source_that_cannot_be_read_closes() -> None:
    assert (
        "'nonsense' is not a network" in asked(whitelist_source_range="10.0.0.0/8,nonsense").closed
    )


def test_limits_are_requests_in_a_second_and_in_a_minute_with_five_times_more_at_once() -> None:
    found = asked(limit_rps="2", limit_rpm="30", limit_whitelist="10.0.0.1/8,nonsense")
    assert found.guards.limits == (
        RateLimit(requests=2, seconds=1, burst=10),
        RateLimit(requests=30, seconds=60, burst=150),
    )
    assert found.guards.unlimited == ("10.0.0.0/8",)
    assert not found.closed
    assert ["'nonsense' is not a network" in one.message for one in found.problems] == [True]
    (limit,) = asked(limit_rps="2", limit_burst_multiplier="3").guards.limits
    assert limit.burst == 6


def test_a_limit_of_nothing_is_none_and_one_that_cannot_be_read_closes() -> None:
    assert asked(limit_rps="0", limit_rpm="-1", limit_connections="0").guards.limits == ()
    assert not asked(limit_rps="0", limit_connections="0").closed
    assert "'ten' is not a number" in asked(limit_rps="ten").closed
    assert "use limit-rps" in asked(limit_connections="10").closed


def test_the_speed_of_answers_keeps_nobody_out() -> None:
    found = asked(limit_rate="100", limit_rate_after="1000")
    assert not found.closed
    assert [one.message for one in found.problems] == ["is not served"] * 2


@pytest.mark.parametrize(
    ("given", "size"),
    [("8m", 8 << 20), ("1024", 1024), ("0", 0), ("2K", 2048), ("9999g", 9999 << 30)],
)
def test_sizes_of_bodies_are_as_nginx_writes_them(given: str, size: int) -> None:
    assert asked(proxy_body_size=given).guards.max_body == size


@pytest.mark.parametrize(
    ("url", "port", "path"),
    [
        ("http://auth.login.svc.cluster.local:4180/oauth2/auth", 4180, "/oauth2/auth"),
        ("http://auth.login.svc/check?x=1", 80, "/check?x=1"),
        ("http://auth.login", 80, "/"),
    ],
)
def test_auth_url_names_a_service(url: str, port: int, path: str) -> None:
    found = asked(auth_url=url, auth_response_headers="X-User, x-mail,X-User").guards.auth
    assert isinstance(found, Subrequest)
    assert found.target == ServicePort(NamespacedName("login", "auth"), port)
    assert (found.path, found.response_headers) == (path, ("x-user", "x-mail"))


@pytest.mark.parametrize(
    "url",
    [
        "https://auth.login.svc/check",
        "http://login.example.com:99999/x",
        "http://auth/check",
        "http://auth.login.svc/$request_uri",
        'http://auth.login.svc/"',
        "http://auth.login.svc/\x01",
        "http://auth.login.svc/é",
        "",
    ],
)
def test_an_auth_url_that_is_not_served_closes(url: str) -> None:
    found = asked(auth_url=url)
    assert found.closed
    assert found.guards.auth is None


def test_the_page_to_sign_in_knows_the_way_back() -> None:
    url = "http://auth.login.svc/check"
    plain = asked(auth_url=url, auth_signin="https://login.test/start").guards.auth
    assert isinstance(plain, Subrequest)
    assert plain.signin == "https://login.test/start?rd=$scheme://$http_host$escaped_request_uri"
    written = asked(auth_url=url, auth_signin="https://l.test/?rd=$escaped_request_uri").guards.auth
    assert isinstance(written, Subrequest)
    assert written.signin == "https://l.test/?rd=$escaped_request_uri"


@pytest.mark.parametrize(
    "signin", ["https://l.test/$remote_user", "javascript:x", 'https://l/"', "https://l/\0"]
)
def test_a_page_to_sign_in_that_is_not_served_leaves_401(signin: str) -> None:
    found = asked(auth_url="http://auth.login.svc/check", auth_signin=signin)
    assert isinstance(found.guards.auth, Subrequest)
    assert found.guards.auth.signin == ""
    assert not found.closed


def test_other_annotations_about_auth_close_as_before() -> None:
    assert asked(auth_type="basic").closed
    assert asked(auth_url="http://auth.login.svc/", auth_snippet="x").closed
