"""A GRPCRoute becomes routes by the paths of its calls; what it cannot serve is UNAVAILABLE."""

from __future__ import annotations

import pytest

from penstock.core.decode import decode
from penstock.core.objects import Broken
from penstock.gatewayapi.grpc_resources import GRPCRoute
from penstock.gatewayapi.merge import ranked
from penstock.gatewayapi.routes import translate
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.regex import full_match
from penstock.ir.route import Forward, PathKind, PathMatch, Respond
from support.gateway_objects import Json, condition, grant, raw, references, service

BACKENDS: Json = {"backendRefs": [{"name": "svc", "port": 80}]}
EXACT, PREFIX, REGEX = PathKind.EXACT, PathKind.PREFIX, PathKind.REGEX


def grpc_route(*rules: Json) -> GRPCRoute | Broken:
    spec = {"parentRefs": [{"name": "gw"}], "rules": list(rules)}
    found = decode(GRPCRoute, {**raw("GRPCRoute", "calls", "app", generation=7), "spec": spec})
    assert isinstance(found, GRPCRoute | Broken)
    return found


def translated(*rules: Json, **known: object) -> TranslatedRoute:
    found = references(
        service("svc"),
        service("ws", "app", {"name": "ws", "port": 80, "appProtocol": "kubernetes.io/ws"}),
        service("far", "data"),
        grants=[grant("data", "app", kind="GRPCRoute")] if known.get("granted") else (),
    )
    return translate(grpc_route(*rules), found)


def calls(**method: str) -> Json:
    return {"matches": [{"method": method}], **BACKENDS}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ({"service": "a.B", "method": "C"}, PathMatch(kind=EXACT, value="/a.B/C")),
        ({"service": "a.B"}, PathMatch(kind=PREFIX, value="/a.B")),
        ({"method": "C"}, PathMatch(kind=REGEX, value="/[^/]+/C")),
    ],
)
def test_a_call_is_a_path(method: Json, path: PathMatch) -> None:
    (route,) = translated(calls(**method)).rules
    assert route.match.path == path
    assert route.name == "GRPCRoute/app/calls/0/0"


@pytest.mark.parametrize("pattern", ["a[.]B|x", "^a[.]B|x$", "(a[.]B|x)"])
def test_expressions_are_compared_with_the_whole_of_their_part(pattern: str) -> None:
    (route,) = translated(calls(type="RegularExpression", service=pattern, method="Get.*")).rules
    assert full_match(route.match.path.value, "/a.B/GetIt")
    assert not full_match(route.match.path.value, "/a.BC/GetIt")


def test_a_rule_without_matches_has_every_call() -> None:
    (route,) = translated(BACKENDS).rules
    assert route.match.path == PathMatch()


def test_a_longer_service_goes_before_a_longer_method_and_more_metadata() -> None:
    headers = [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]
    short = {"matches": [{"method": {"service": "a.B"}, "headers": headers}], **BACKENDS}
    route = translated(
        BACKENDS, short, calls(service="a.B", method="C"), calls(service="a.BB"), calls(method="Z")
    )
    order = [one.route.name.split("/")[3] for one in ranked(route)]
    assert order == ["3", "2", "1", "4", "0"]


def test_an_expression_that_envoy_refuses_answers_unavailable_and_harms_no_other_rule() -> None:
    found = translated(calls(type="RegularExpression", service="("), BACKENDS)
    bad, good = found.rules
    assert bad.action == Respond(status=503)
    assert isinstance(good.action, Forward)
    assert found.verdict.partially_invalid is not None
    assert "UNAVAILABLE" in found.verdict.partially_invalid.message


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("(", "Get", None),
        ("shop(", "Get", "/shop.*"),
        ("shop|stock(", "Get", None),
        ("shop|stock", "Get(", "/(?:shop|stock)/.*"),
        ("shop", "(", "/(?:shop)/.*"),
        ("", "(", None),
    ],
)
def test_of_an_expression_that_cannot_be_read_only_what_may_be_meant_is_unavailable(
    service: str, method: str, path: str | None
) -> None:
    named = {"service": service} if service else {}
    found = translated(calls(type="RegularExpression", method=method, **named))
    wanted = PathMatch() if path is None else PathMatch(kind=PathKind.REGEX, value=path)
    assert [one.route.match.path for one in found.routes] == [wanted]


def test_backends_that_lead_nowhere_are_unavailable() -> None:
    (route,) = translated({"backendRefs": [{"name": "missing", "port": 80}]}).rules
    assert isinstance(route.action, Forward)
    assert route.action.invalid_status == 503


@pytest.mark.parametrize("granted", [False, True])
def test_a_grant_for_grpc_routes_is_asked_for(granted: bool) -> None:  # noqa: FBT001 - a case
    far = {"backendRefs": [{"name": "far", "namespace": "data", "port": 80}]}
    refs = translated(far, granted=granted).verdict.resolved_refs
    assert (refs.status, refs.reason) == (
        (True, "ResolvedRefs") if granted else (False, "RefNotPermitted")
    )


def test_calls_do_not_go_to_a_port_of_websockets() -> None:
    refs = translated({"backendRefs": [{"name": "ws", "port": 80}]}).verdict.resolved_refs
    assert (refs.status, refs.reason) == (False, "UnsupportedProtocol")


@pytest.mark.parametrize(
    "method", [{}, {"service": "a/b"}, {"method": "a.b"}, {"type": "Prefix", "service": "a"}]
)
def test_what_is_no_call_makes_the_route_broken(method: Json) -> None:
    route = grpc_route({"matches": [{"method": method}]})
    assert isinstance(route, Broken)
    found = translate(route, references())
    assert [one.action for one in found.rules] == [Respond(status=503)]
    assert condition([found.verdict.accepted], "Accepted").status is False


def test_without_rules_there_are_no_calls() -> None:
    found = translated()
    assert found.rules == ()
    assert found.verdict.accepted.status


def test_copies_of_calls_are_http2() -> None:
    copy = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "svc", "port": 80}}}
    route = translated({**BACKENDS, "filters": [copy]})
    (action,) = (one.action for one in route.rules)
    assert isinstance(action, Forward)
    assert [one.http2 for one in action.mirrors] == [True]
