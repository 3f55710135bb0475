"""A rule that cannot be served answers 500 and harms no other."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.httproute import translate
from penstock.ir.route import (
    Forward,
    HeaderChange,
    NamedMatch,
    PathKind,
    PathMatch,
    RouteMatch,
    StringMatch,
)
from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE
from penstock.meta.names import ObjectRef, Origin
from support.gateway_objects import Json, broken_route, references
from support.http_rules import (
    BACKENDS,
    FORWARD,
    GOOD,
    INVALID,
    SERVICE,
    header,
    only,
    replace_path,
    replace_prefix,
    request_headers,
    request_redirect,
    response_headers,
    translated,
    url_rewrite,
)

INCOMPATIBLE = "IncompatibleFilters"


UNSUPPORTED = "UnsupportedValue"


MIRROR: Json = {"type": "RequestMirror", "requestMirror": {"backendRef": SERVICE}}


CORS: Json = {"type": "CORS", "cors": {"allowOrigins": ["https://a.test"]}}


EXTENSION: Json = {
    "type": "ExtensionRef",
    "extensionRef": {"group": "a.test", "kind": "K", "name": "n"},
}


TWO_MATCHES = [{"path": {"value": "/a"}}, {"path": {"value": "/b"}}]


EXACT_MATCH = [{"path": {"type": "Exact", "value": "/a"}}]


@pytest.mark.parametrize(
    ("rule", "path", "reason"),
    [
        ({"filters": [EXTENSION]}, "filters[0]", UNSUPPORTED),
        ({"filters": [EXTENSION, EXTENSION]}, "filters[0]", UNSUPPORTED),
        (
            {"sessionPersistence": {"sessionName": "a b"}},
            "sessionPersistence.sessionName",
            UNSUPPORTED,
        ),
        (
            {"backendRefs": [{**SERVICE, "filters": [MIRROR]}]},
            "backendRefs[0].filters[0]",
            UNSUPPORTED,
        ),
        (
            {
                "filters": [url_rewrite(hostname="a.test")],
                "backendRefs": [{**SERVICE, "filters": [url_rewrite(hostname="b.test")]}],
            },
            "backendRefs[0].filters",
            INCOMPATIBLE,
        ),
        (
            {
                "filters": [url_rewrite(path=replace_path("/a"))],
                "backendRefs": [{**SERVICE, "filters": [url_rewrite(path=replace_path("/b"))]}],
            },
            "backendRefs[0].filters",
            INCOMPATIBLE,
        ),
        (
            {
                "matches": EXACT_MATCH,
                "backendRefs": [{**SERVICE, "filters": [url_rewrite(path=replace_prefix("/b"))]}],
            },
            "backendRefs[0].filters",
            UNSUPPORTED,
        ),
        (
            {"backendRefs": [{**SERVICE, "filters": [request_headers(set=[header("Host")])]}]},
            "backendRefs[0].filters[0].requestHeaderModifier.set[0].name",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(), request_headers()]},
            "filters[1]",
            INCOMPATIBLE,
        ),
        (
            {"backendRefs": [], "filters": [request_redirect(), url_rewrite()]},
            "filters",
            INCOMPATIBLE,
        ),
        ({"filters": [request_redirect()]}, "filters", INCOMPATIBLE),
        ({"backendRefs": [], "filters": [request_redirect(), MIRROR]}, "filters", INCOMPATIBLE),
        ({"backendRefs": [], "filters": [request_redirect(), CORS]}, "filters", INCOMPATIBLE),
        ({"filters": [CORS, CORS]}, "filters[1]", INCOMPATIBLE),
        (
            {
                "backendRefs": [],
                "filters": [request_redirect(), request_headers(set=[header("Host", "b.test")])],
            },
            "filters",
            INCOMPATIBLE,
        ),
        (
            {
                "filters": [
                    url_rewrite(hostname="a.test"),
                    request_headers(set=[header("Host", "b.test")]),
                ]
            },
            "filters",
            INCOMPATIBLE,
        ),
        (
            {"matches": EXACT_MATCH, "filters": [url_rewrite(path=replace_prefix("/b"))]},
            "filters",
            UNSUPPORTED,
        ),
        (
            {"matches": TWO_MATCHES, "filters": [url_rewrite(path=replace_prefix("/b"))]},
            "filters",
            UNSUPPORTED,
        ),
        (
            {
                "matches": EXACT_MATCH,
                "backendRefs": [],
                "filters": [request_redirect(path=replace_prefix("/b"))],
            },
            "filters",
            UNSUPPORTED,
        ),
        (
            {"filters": [url_rewrite(path=replace_path("/a\r\nb"))]},
            "filters[0].urlRewrite.path.replaceFullPath",
            UNSUPPORTED,
        ),
        (
            {"filters": [url_rewrite(path=replace_path("b"))]},
            "filters[0].urlRewrite.path.replaceFullPath",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(add=[header("Host")])]},
            "filters[0].requestHeaderModifier.add[0].name",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(remove=["host"])]},
            "filters[0].requestHeaderModifier.remove[0]",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(set=[header("Host", "a b")])]},
            "filters[0].requestHeaderModifier.set[0].value",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(remove=[":path"])]},
            "filters[0].requestHeaderModifier.remove[0]",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(remove=[""])]},
            "filters[0].requestHeaderModifier.remove[0]",
            UNSUPPORTED,
        ),
        (
            {"filters": [response_headers(set=[header("Transfer-Encoding")])]},
            "filters[0].responseHeaderModifier.set[0].name",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(set=[header("Content-Length", "1")])]},
            "filters[0].requestHeaderModifier.set[0].name",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(set=[header("X-Penstock-Scope")])]},
            "filters[0].requestHeaderModifier.set[0].name",
            UNSUPPORTED,
        ),
        (
            {"filters": [request_headers(set=[header("A")], add=[header("a")])]},
            "filters[0].requestHeaderModifier.add[0].name",
            UNSUPPORTED,
        ),
        (
            {"timeouts": {"request": "1s", "backendRequest": "2s"}},
            "timeouts.backendRequest",
            UNSUPPORTED,
        ),
        (
            {"matches": [{"headers": [{**header("A", "("), "type": "RegularExpression"}]}]},
            "matches[0].headers[0].value",
            UNSUPPORTED,
        ),
        (
            {"matches": [{"queryParams": [{**header("A", "["), "type": "RegularExpression"}]}]},
            "matches[0].queryParams[0].value",
            UNSUPPORTED,
        ),
    ],
)
def test_rule_that_cannot_be_served_answers_500_and_names_the_place(
    rule: Json, path: str, reason: str
) -> None:
    route = translated({**BACKENDS, **rule})
    assert {one.action for one in route.rules} == {INVALID}
    assert route.rules[0].request_headers == HeaderChange()
    accepted = route.verdict.accepted
    assert (accepted.status, accepted.reason) == (False, reason)
    assert f"spec.rules[0].{path}: " in accepted.message
    assert route.verdict.partially_invalid is None
    assert f"spec.rules[0].{path}" in [one.path for one in route.problems]


def test_rule_that_cannot_be_served_leaves_the_others_alone() -> None:
    route = translated({**BACKENDS, "filters": [EXTENSION]}, GOOD)
    bad, good = route.rules
    assert bad.action == INVALID
    assert isinstance(good.action, Forward)
    assert route.verdict.accepted.status is True
    partially = route.verdict.partially_invalid
    assert partially is not None
    assert (partially.status, partially.reason) == (True, UNSUPPORTED)
    assert partially.message.startswith("Dropped Rule 0")
    assert "spec.rules[0].filters[0]: filter ExtensionRef is not supported" in partially.message


def test_message_does_not_grow_without_end() -> None:
    route = translated(*[{**BACKENDS, "filters": [EXTENSION]}] * 16)
    assert route.verdict.accepted.message.endswith("and 11 more")


@pytest.mark.parametrize(
    ("pattern", "start"),
    [
        ("/api/v[0-9", "/api/v"),
        ("/api/(", "/api/"),
        ("/api", "/api"),
        ("/a/b*(", "/a/"),
        ("/a/b{2", "/a/"),
        ("/a/b(c", "/a/b"),
        ("^/a/(", "/a/"),
        ("(/a/b", ""),
        ("/a/b|(", ""),
        ("/a)|b", ""),
        ("/a/(b|c", "/a/"),
        ("/a/[|]", "/a/"),
        (r"/a/b\|c", "/a/b"),
        ("/(", ""),
    ],
)
def test_wrong_expression_answers_500_where_it_certainly_would_match(
    pattern: str, start: str
) -> None:
    match = {
        "path": {"type": "RegularExpression", "value": pattern + "("},
        "method": "GET",
        "headers": [header("A"), {**header("B", "("), "type": "RegularExpression"}],
    }
    route = only({"matches": [match], **BACKENDS})
    assert route.action == INVALID
    assert route.match == RouteMatch(
        path=PathMatch(kind=PathKind.REGEX, value=f"{start}.*") if start else PathMatch(),
        method="GET",
        headers=(NamedMatch(name="a", match=StringMatch(value="v")),),
    )


def test_expression_larger_than_envoy_takes_is_refused() -> None:
    match = {"path": {"type": "RegularExpression", "value": "/x{999}y{9}"}}
    route = translated({"matches": [match], **BACKENDS})
    assert route.rules[0].action == INVALID
    assert f"at most {RE2_MAX_PROGRAM_SIZE}" in route.verdict.accepted.message


def test_expression_within_the_limit_is_kept_as_written() -> None:
    match = {"path": {"type": "RegularExpression", "value": "/v[0-9]+/.*"}}
    route = only({"matches": [match], **BACKENDS})
    assert route.match.path == PathMatch(kind=PathKind.REGEX, value="/v[0-9]+/.*")
    assert route.action == FORWARD


def test_broken_route_answers_500_to_everything_it_is_asked() -> None:
    route = translate(broken_route(rules=[{"wrong": 1}]), references())
    (one,) = route.rules
    assert (one.name, one.match, one.action) == ("app/route/0/0", RouteMatch(), INVALID)
    assert one.origin == Origin(ObjectRef("HTTPRoute", "app", "route"))
    accepted = route.verdict.accepted
    assert (accepted.status, accepted.reason) == (False, UNSUPPORTED)
    assert "spec.rules[0].wrong: unknown field" in accepted.message
    assert route.verdict.resolved_refs.status is None
    assert [one.path for one in route.problems] == ["spec.rules[0].wrong"]


def test_conditions_carry_the_generation() -> None:
    verdict = translated({**BACKENDS, "filters": [EXTENSION]}, GOOD).verdict
    assert verdict.partially_invalid is not None
    found = (verdict.accepted, verdict.resolved_refs, verdict.partially_invalid)
    assert {one.observed_generation for one in found} == {7}
