"""Filters of an HTTPRoute change requests, or answer them."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.filters import HTTPHeaderFilter
from penstock.gatewayapi.modifiers import header_edit
from penstock.ir.route import (
    NO_REWRITE,
    Forward,
    HeaderChange,
    PathRewrite,
    Redirect,
    Rewrite,
    ServiceBackend,
)
from support.gateway_objects import Json
from support.http_rules import (
    BACKENDS,
    FORWARD,
    SERVICE,
    action,
    forwarded,
    header,
    only,
    replace_path,
    replace_prefix,
    request_headers,
    request_redirect,
    response_headers,
    url_rewrite,
)


def test_headers_are_changed_with_lower_case_names_and_literal_values() -> None:
    route = only(
        {
            **BACKENDS,
            "filters": [
                request_headers(
                    set=[header("X-Set", "100%")],
                    add=[header("X-Add", "%REQ(:path)%")],
                    remove=["X-Gone"],
                ),
                response_headers(remove=["Server"]),
            ],
        }
    )
    assert route.request_headers == HeaderChange(
        set=(("x-set", "100%"),), add=(("x-add", "%REQ(:path)%"),), remove=("x-gone",)
    )
    assert route.response_headers == HeaderChange(remove=("server",))
    assert route.action == FORWARD


def test_headers_are_changed_for_one_backend() -> None:
    filters = [request_headers(set=[header("A")]), response_headers(add=[header("B")])]
    found = action(backendRefs=[{**SERVICE, "filters": filters}])
    assert isinstance(found, Forward)
    (backend,) = found.backends
    assert isinstance(backend, ServiceBackend)
    assert backend.request_headers == HeaderChange(set=(("a", "v"),))
    assert backend.response_headers == HeaderChange(add=(("b", "v"),))


def test_host_and_path_are_rewritten_for_one_backend() -> None:
    mine = url_rewrite(hostname="b.test", path=replace_path("/new"))
    one, other = action(backendRefs=[{**SERVICE, "filters": [mine]}, SERVICE]).backends
    assert one.rewrite == Rewrite(host="b.test", path=PathRewrite(value="/new", prefix=False))
    assert other.rewrite == NO_REWRITE


def test_host_that_is_set_is_a_rewrite_of_the_host() -> None:
    route = only(
        {**BACKENDS, "filters": [request_headers(set=[header("Host", "b.test"), header("A")])]}
    )
    assert isinstance(route.action, Forward)
    assert route.action.rewrite_host == "b.test"
    assert route.request_headers == HeaderChange(set=(("a", "v"),))


def test_url_rewrite_changes_host_and_path() -> None:
    found = forwarded(url_rewrite(hostname="b.test", path=replace_path("/new")))
    assert found.rewrite_host == "b.test"
    assert found.rewrite_path == PathRewrite(value="/new", prefix=False)


@pytest.mark.parametrize(("written", "value"), [("/new", "/new"), ("", "/"), ("/", "/")])
def test_prefix_is_replaced(written: str, value: str) -> None:
    matches = [{"path": {"value": "/old"}}]
    found = forwarded(url_rewrite(path=replace_prefix(written)), matches=matches)
    assert found.rewrite_path == PathRewrite(value=value, prefix=True)


def test_redirect_keeps_what_it_does_not_name() -> None:
    assert only({"filters": [request_redirect()]}).action == Redirect()


def test_redirect_changes_what_it_names() -> None:
    rule: Json = {
        "matches": [{"path": {"value": "/old"}}],
        "filters": [
            request_redirect(
                scheme="https",
                hostname="b.test",
                port=8443,
                path=replace_prefix("/new"),
                statusCode=301,
            ),
            response_headers(set=[header("A")]),
        ],
    }
    route = only(rule)
    assert route.action == Redirect(
        scheme="https",
        host="b.test",
        port=8443,
        path=PathRewrite(value="/new", prefix=True),
        status=301,
    )
    assert route.response_headers == HeaderChange(set=(("a", "v"),))


def test_empty_header_filter_changes_nothing() -> None:
    edit = header_edit(HTTPHeaderFilter(), "here", host_may_change=True)
    assert (edit.change, edit.host, edit.faults) == (HeaderChange(), "", ())
