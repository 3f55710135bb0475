"""Sessions by cookie, as annotations of ingress-nginx ask for them."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.sessions import kept_session
from penstock.ingress.affinity import Affinity, lost
from penstock.ingress.annotations import options
from penstock.ingress.reader import NGINX
from penstock.ingress.resources import Ingress
from penstock.ir.session import Session
from penstock.meta.names import ObjectRef, Origin
from support.ingress_objects import ingress

RULE = Origin(ObjectRef("HTTPRoute", "shop", "web"), "spec.rules[0]")


def asked(**given: str) -> tuple[Affinity | None, list[str]]:
    annotations = {NGINX + name.replace("_", "-"): value for name, value in given.items()}
    made = ingress("a", annotations=annotations)
    assert isinstance(made, Ingress)
    found = options(made)
    return found.affinity, [one.path for one in found.problems]


def session(path: str, **given: str) -> Session:
    found, problems = asked(affinity="cookie", **given)
    assert problems == []
    assert found is not None
    kept = kept_session(found.persistence(path), None, RULE).session
    assert kept is not None
    return found.applied(kept)


def test_without_more_it_is_what_ingress_nginx_does() -> None:
    assert session("/a") == Session(name="INGRESSCOOKIE", path="/a", same_site="")


def test_everything_that_is_asked_for_is_there() -> None:
    found = session(
        "/a",
        session_cookie_name="seat",
        session_cookie_path="/b",
        session_cookie_max_age="90061",
        session_cookie_expires="5",
        session_cookie_samesite="NONE",
        session_cookie_secure="true",
        session_cookie_domain=".a.test",
    )
    assert found == Session(
        name="seat",
        path="/b",
        lifetime_ms=90_061_000,
        permanent=True,
        same_site="None",
        secure=True,
        domain=".a.test",
    )


def test_the_longest_age_can_be_said() -> None:
    assert session("/", session_cookie_expires="999999999").lifetime_ms == 359_999_999_000


def test_a_path_that_is_an_expression_is_no_path_of_a_cookie() -> None:
    assert session("/b(/|$)(.*)").path == "/"


@pytest.mark.parametrize(
    "given",
    [
        {"session_cookie_name": "a b"},
        {"session_cookie_path": "/;x"},
        {"session_cookie_domain": "a;b"},
        {"session_cookie_samesite": "maybe"},
        {"session_cookie_max_age": "1h"},
        {"session_cookie_secure": "perhaps"},
        {"affinity_canary_behavior": "legacy"},
        {"session_cookie_conditional_samesite_none": "true"},
    ],
)
def test_what_cannot_be_served_is_told_and_harms_nothing(given: dict[str, str]) -> None:
    found, problems = asked(affinity="cookie", **given)
    assert found == Affinity()
    assert len(problems) == 1


def test_without_affinity_there_are_no_sessions() -> None:
    assert asked(session_cookie_name="a") == (None, [])
    assert asked(affinity="ip")[0] is None


def test_what_an_httproute_cannot_say_is_lost() -> None:
    assert lost(Affinity(name="a", seconds=1, path="/")) is None
    problem = lost(Affinity(same_site="Lax", secure=False, domain="a"))
    assert problem is not None
    for name in ("samesite", "secure", "domain"):
        assert f"session-cookie-{name}" in problem.message
