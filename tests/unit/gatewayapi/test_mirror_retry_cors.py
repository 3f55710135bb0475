"""Copies, repeated requests and CORS, as routes."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.gatewayapi.httproute import translate
from penstock.gatewayapi.translation import TranslatedRoute
from penstock.ir.route import Cors, Forward, Mirror, Retry, ServicePort
from penstock.meta.names import NamespacedName
from penstock.meta.problems import Severity
from support.gateway_objects import Json, http_route, references, service

BACKENDS: Json = {"backendRefs": [{"name": "svc", "port": 80}]}
COPY = ServicePort(NamespacedName("app", "copy"), 80)


def _translated(rule: Json, *, mesh: bool = False) -> TranslatedRoute:
    known = references(service("svc"), service("copy"), service("far", "data"), mesh=mesh)
    return translate(http_route(rules=[{**BACKENDS, **rule}]), known)


def _forward(rule: Json) -> Forward:
    (route,) = _translated(rule).rules
    assert isinstance(route.action, Forward)
    return route.action


def _mirror(name: str = "copy", *, namespace: str = "app", **share: Any) -> Json:
    ref = {"name": name, "port": 80, "namespace": namespace}
    return {"type": "RequestMirror", "requestMirror": {"backendRef": ref, **share}}


@pytest.mark.parametrize(
    ("share", "mirror"),
    [
        ({}, Mirror(target=COPY)),
        ({"percent": 20}, Mirror(target=COPY, numerator=20, denominator=100)),
        (
            {"fraction": {"numerator": 1, "denominator": 3}},
            Mirror(target=COPY, numerator=1, denominator=3),
        ),
    ],
)
def test_a_share_of_requests_is_copied(share: Json, mirror: Mirror) -> None:
    assert _forward({"filters": [_mirror(**share)]}).mirrors == (mirror,)


def test_a_share_of_nothing_is_no_copy() -> None:
    assert _forward({"filters": [_mirror(percent=0)]}).mirrors == ()


def test_several_copies_can_be_sent() -> None:
    found = _forward({"filters": [_mirror(percent=10), _mirror("svc")]}).mirrors
    assert [one.target.service.name for one in found] == ["copy", "svc"]


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        (_mirror("missing"), "BackendNotFound"),
        (_mirror("far", namespace="data"), "RefNotPermitted"),
    ],
)
def test_a_copy_that_leads_nowhere_harms_nobody(mirror: Json, reason: str) -> None:
    route = _translated({"filters": [mirror]})
    (rule,) = route.rules
    assert isinstance(rule.action, Forward)
    assert rule.action.mirrors == ()
    assert route.verdict.accepted.status is True
    refs = route.verdict.resolved_refs
    assert (refs.status, refs.reason) == (False, reason)
    (problem,) = route.problems
    assert problem.path == "spec.rules[0].filters[0].requestMirror.backendRef"
    assert (problem.hint, problem.severity) == ("nothing is copied there", Severity.WARNING)


def test_copies_are_sent_in_the_mesh_and_no_grant_is_asked_for() -> None:
    route = _translated({"filters": [_mirror(), _mirror("far", namespace="data")]}, mesh=True)
    (rule,) = route.rules
    assert isinstance(rule.action, Forward)
    assert [one.target.service.name for one in rule.action.mirrors] == ["copy", "far"]
    assert route.verdict.resolved_refs.status is True


@pytest.mark.parametrize(
    ("given", "retry"),
    [
        ({}, Retry(attempts=1)),
        ({"attempts": 0}, Retry(attempts=0)),
        (
            {"codes": [503, 500, 503], "attempts": 3, "backoff": "1s500ms"},
            Retry(attempts=3, codes=(500, 503), backoff_ms=1500),
        ),
    ],
)
def test_requests_are_sent_again_as_often_as_the_rule_says(given: Json, retry: Retry) -> None:
    assert _forward({"retry": given}).retry == retry


def test_cors_is_a_policy_of_the_route() -> None:
    given = {
        "allowOrigins": ["https://A.test"],
        "allowMethods": ["GET"],
        "allowHeaders": ["X-One"],
        "exposeHeaders": ["X-Two"],
        "allowCredentials": True,
        "maxAge": 60,
    }
    (route,) = _translated({"filters": [{"type": "CORS", "cors": given}]}).rules
    assert route.cors == Cors(
        origins=("https://A.test",),
        methods=("GET",),
        headers=("x-one",),
        exposed=("x-two",),
        credentials=True,
        max_age_seconds=60,
    )
