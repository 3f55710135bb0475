"""An HTTPRoute becomes routes."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.httproute import translate
from penstock.ir.route import (
    Forward,
    InvalidBackend,
    NamedMatch,
    PathKind,
    PathMatch,
    RouteMatch,
    ServiceBackend,
    StringMatch,
)
from penstock.meta.problems import Severity
from support.gateway_objects import http_route, references, service
from support.http_rules import BACKENDS, FORWARD, SERVICE, action, header, only, translated


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


def test_timeouts_are_milliseconds_and_zero_is_no_limit() -> None:
    found = action(timeouts={"request": "1m30s", "backendRequest": "250ms"})
    assert isinstance(found, Forward)
    assert (found.request_timeout_ms, found.backend_timeout_ms) == (90_000, 250)
    unlimited = action(timeouts={"request": "0s", "backendRequest": "1h"})
    assert isinstance(unlimited, Forward)
    assert (unlimited.request_timeout_ms, unlimited.backend_timeout_ms) == (0, 3_600_000)


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
