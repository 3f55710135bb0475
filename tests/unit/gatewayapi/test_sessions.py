"""What sessionPersistence comes to, in the words of both versions of the API."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.gatewayapi.session_persistence import SessionPersistence
from penstock.gatewayapi.sessions import kept_session
from penstock.ir.session import Session, SessionKind
from penstock.meta.names import ObjectRef, Origin

ROUTE = ObjectRef("HTTPRoute", "shop", "web")
PERMANENT = {"lifetimeType": "Permanent"}
RULE = Origin(ROUTE, "spec.rules[0]")


def kept(raw: dict[str, Any], name: str | None = None, rule: Origin = RULE) -> Session:
    found = kept_session(msgspec.convert(raw, SessionPersistence), name, rule)
    assert found.session is not None, found.faults
    return found.session


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"sessionName": "a"}, {"cookie": {"name": "a"}}),
        ({"type": "Header", "sessionName": "a"}, {"type": "Header", "header": {"name": "A"}}),
        (
            {
                "sessionName": "a",
                "absoluteTimeout": "1h",
                "cookieConfig": {"lifetimeType": "Permanent"},
            },
            {"absoluteTimeout": "1h", "cookie": {"name": "a", "lifetimeType": "Permanent"}},
        ),
    ],
)
def test_both_versions_say_the_same(older: dict[str, Any], newer: dict[str, Any]) -> None:
    assert kept(older) == kept(newer)


def test_a_session_has_what_was_asked_for() -> None:
    raw = {"absoluteTimeout": "1m", "cookie": {"name": "a", "path": "/b"}}
    assert kept(raw) == Session(kind=SessionKind.COOKIE, name="a", path="/b", lifetime_ms=60_000)


def test_a_name_is_made_for_each_rule_and_stays() -> None:
    first = kept({})
    assert first == kept({})
    assert first.name.startswith("penstock-")
    others = [kept({}, rule=Origin(ROUTE, "spec.rules[1]")), kept({}, "named")]
    assert len({first.name, *(one.name for one in others)}) == 3
    assert kept({}, "named", Origin(ROUTE, "spec.rules[7]")) == others[1]


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"sessionName": "a;b"}, "sessionName"),
        ({"type": "Header", "header": {"name": "Content-Length"}}, "header.name"),
        ({"type": "Header", "sessionName": "x-penstock-scope"}, "sessionName"),
        ({"cookie": {"path": "/a;Domain=b"}}, "cookie.path"),
        ({"cookie": {"path": "a"}}, "cookie.path"),
        ({"absoluteTimeout": "0s"}, "absoluteTimeout"),
        (
            {"absoluteTimeout": "1500ms", "cookie": {"lifetimeType": "Permanent"}},
            "absoluteTimeout",
        ),
    ],
)
def test_what_cannot_be_kept_is_named(raw: dict[str, Any], path: str) -> None:
    found = kept_session(msgspec.convert(raw, SessionPersistence), None, RULE)
    assert found.session is None
    assert [one.path for one in found.faults] == [f"spec.rules[0].sessionPersistence.{path}"]
