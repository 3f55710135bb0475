"""An HTTPRoute becomes routes; a rule that cannot be served answers 500 and harms no other."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.gatewayapi.filters import HTTPHeaderFilter
from penstock.gatewayapi.httproute import translate
from penstock.gatewayapi.modifiers import header_edit
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.route import (
    NO_REWRITE,
    Forward,
    HeaderChange,
    InvalidBackend,
    NamedMatch,
    PathKind,
    PathMatch,
    PathRewrite,
    Redirect,
    Respond,
    Rewrite,
    Route,
    RouteMatch,
    ServiceBackend,
    ServicePort,
    StringMatch,
)
from penstock.meta.limits import RE2_MAX_PROGRAM_SIZE
from penstock.meta.names import NamespacedName, ObjectRef, Origin
from penstock.meta.problems import Severity
from support.gateway_objects import Json, broken_route, http_route, references, service

SERVICE: Json = {"name": "svc", "port": 80}
BACKENDS: Json = {"backendRefs": [SERVICE]}
FORWARD = Forward(
    backends=(
        ServiceBackend(
            target=ServicePort(service=NamespacedName("app", "svc"), port=80),
            origin=Origin(ObjectRef("HTTPRoute", "app", "route"), "spec.rules[0].backendRefs[0]"),
        ),
    )
)
INVALID = Respond(status=500)
GOOD: Json = {"matches": [{"path": {"value": "/good"}}], **BACKENDS}


def translated(*rules: Json, **more: Any) -> TranslatedRoute:
    known = references(service("svc"), service("far", "data"))
    return translate(http_route(rules=rules, **more), known)


def only(*rules: Json) -> Route:
    (route,) = translated(*rules).rules
    return route


def action(**rule: Any) -> Any:
    return only({**BACKENDS, **rule}).action


def forwarded(*filters: Json, **rule: Any) -> Forward:
    found = action(filters=list(filters), **rule)
    assert isinstance(found, Forward)
    return found


def request_headers(**given: Any) -> Json:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": given}


def response_headers(**given: Any) -> Json:
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": given}


def url_rewrite(**given: Any) -> Json:
    return {"type": "URLRewrite", "urlRewrite": given}


def request_redirect(**given: Any) -> Json:
    return {"type": "RequestRedirect", "requestRedirect": given}


def header(name: str, value: str = "v") -> Json:
    return {"name": name, "value": value}


def replace_prefix(value: str) -> Json:
    return {"type": "ReplacePrefixMatch", "replacePrefixMatch": value}


def replace_path(value: str) -> Json:
    return {"type": "ReplaceFullPath", "replaceFullPath": value}


# --- routes and matches


def test_every_match_of_every_rule_is_a_route_with_a_stable_name() -> None:
    rule = {"matches": [{"path": {"value": "/a"}}, {"path": {"value": "/b"}}], **BACKENDS}
    routes = translated(rule, BACKENDS).rules
    assert [(one.name, one.match.path.value, one.origin.path) for one in routes] == [
        ("app/route/0/0", "/a", "spec.rules[0]"),
        ("app/route/0/1", "/b", "spec.rules[0]"),
        ("app/route/1/0", "/", "spec.rules[1]"),
    ]


def test_rule_without_matches_matches_everything() -> None:
    assert only(BACKENDS).match == RouteMatch()
    assert only({"matches": [], **BACKENDS}).match == RouteMatch()


def test_all_parts_of_a_match_are_translated() -> None:
    match = {
        "path": {"type": "Exact", "value": "/a/"},
        "method": "PUT",
        "headers": [
            {"name": "X-A", "value": "1"},
            {"name": "X-B", "value": "b.*", "type": "RegularExpression"},
        ],
        "queryParams": [{"name": "Q", "value": "2"}],
    }
    assert only({"matches": [match], **BACKENDS}).match == RouteMatch(
        path=PathMatch(kind=PathKind.EXACT, value="/a/"),
        method="PUT",
        headers=(
            NamedMatch(name="x-a", match=StringMatch(value="1")),
            NamedMatch(name="x-b", match=StringMatch(value="b.*", regex=True)),
        ),
        queries=(NamedMatch(name="Q", match=StringMatch(value="2")),),
    )


@pytest.mark.parametrize(("written", "value"), [("/a/", "/a"), ("/a", "/a"), ("/", "/")])
def test_trailing_slash_of_a_prefix_is_ignored(written: str, value: str) -> None:
    match = only({"matches": [{"path": {"value": written}}], **BACKENDS}).match
    assert match.path == PathMatch(kind=PathKind.PREFIX, value=value)


def test_only_the_first_match_of_a_header_counts_whatever_its_case() -> None:
    match = {"headers": [header("X-A", "1"), header("x-a", "2")]}
    (one,) = only({"matches": [match], **BACKENDS}).match.headers
    assert one.match.value == "1"


def test_forwarding_without_anything_else() -> None:
    assert action() == FORWARD


def test_weights_and_invalid_backends_stay_side_by_side() -> None:
    refs = [{**SERVICE, "weight": 9}, {"name": "gone", "port": 80, "weight": 1}]
    route = translated({"backendRefs": refs})
    (one,) = route.rules
    assert isinstance(one.action, Forward)
    assert [(type(each), each.weight) for each in one.action.backends] == [
        (ServiceBackend, 9),
        (InvalidBackend, 1),
    ]
    refs_condition = route.verdict.resolved_refs
    assert (refs_condition.status, refs_condition.reason) == (False, "BackendNotFound")
    assert "spec.rules[0].backendRefs[1]" in refs_condition.message
    assert route.verdict.accepted.status is True
    assert [one.severity for one in route.problems] == [Severity.WARNING]


def test_rule_without_backends_forwards_to_none() -> None:
    route = translated({})
    assert [one.action for one in route.rules] == [Forward(backends=())]
    assert route.verdict.resolved_refs.status is True


def test_cross_namespace_backend_is_permitted_on_a_service_only() -> None:
    rule = {"backendRefs": [{"name": "far", "namespace": "data", "port": 80}]}
    assert translated(rule).verdict.resolved_refs.reason == "RefNotPermitted"
    known = references(service("far", "data"), mesh=True)
    assert translate(http_route(rules=[rule]), known).verdict.resolved_refs.status is True


# --- filters


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


def test_timeouts_are_milliseconds_and_zero_is_no_limit() -> None:
    found = action(timeouts={"request": "1m30s", "backendRequest": "250ms"})
    assert isinstance(found, Forward)
    assert (found.request_timeout_ms, found.backend_timeout_ms) == (90_000, 250)
    unlimited = action(timeouts={"request": "0s", "backendRequest": "1h"})
    assert isinstance(unlimited, Forward)
    assert (unlimited.request_timeout_ms, unlimited.backend_timeout_ms) == (0, 3_600_000)


# --- rules that cannot be served


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
    ("pattern", "prefix"),
    [
        ("/api/v[0-9", "/api"),
        ("/api/(", "/api"),
        ("/api", "/"),
        ("/a/b*(", "/a"),
        ("/a/b(c", "/a"),
        ("^/a/(", "/a"),
        ("(/a/b", "/"),
        ("/a/b|(", "/"),
    ],
)
def test_wrong_expression_answers_500_where_it_certainly_would_match(
    pattern: str, prefix: str
) -> None:
    match = {
        "path": {"type": "RegularExpression", "value": pattern + "("},
        "method": "GET",
        "headers": [header("A"), {**header("B", "("), "type": "RegularExpression"}],
    }
    route = only({"matches": [match], **BACKENDS})
    assert route.action == INVALID
    assert route.match == RouteMatch(
        path=PathMatch(kind=PathKind.PREFIX, value=prefix),
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


def test_default_gateways_are_said_not_to_exist() -> None:
    raw_route = http_route(rules=[BACKENDS])
    spec = type(raw_route.spec)(
        parent_refs=raw_route.spec.parent_refs,
        rules=raw_route.spec.rules,
        use_default_gateways="All",
    )
    route = type(raw_route)(metadata=raw_route.metadata, spec=spec)
    (problem,) = translate(route, references(service("svc"))).problems
    assert (problem.path, problem.severity) == ("spec.useDefaultGateways", Severity.WARNING)


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


def test_empty_header_filter_changes_nothing() -> None:
    edit = header_edit(HTTPHeaderFilter(), "here", host_may_change=True)
    assert (edit.change, edit.host, edit.faults) == (HeaderChange(), "", ())
