"""Of several matching routes exactly one goes first."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.gatewayapi.precedence import Age, Rank, rank
from penstock.ir.route import NamedMatch, PathKind, PathMatch, RouteMatch, StringMatch
from penstock.meta.names import NamespacedName

AGE = Age("2026-01-01T00:00:00Z", "app/route")


def path(kind: str, value: str) -> PathMatch:
    return PathMatch(kind=PathKind(kind), value=value)


def named(*names: str) -> tuple[NamedMatch, ...]:
    return tuple(NamedMatch(name=name, match=StringMatch(value="v")) for name in names)


def place(
    hostname: str = "*", age: Age = AGE, position: tuple[int, int] = (0, 0), **match: Any
) -> Rank:
    return rank(RouteMatch(**match), hostname, age, position)


EXACT, PREFIX, REGEX = "Exact", "PathPrefix", "RegularExpression"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (place(path=path(EXACT, "/a")), place(path=path(PREFIX, "/a/very/long"))),
        (place(path=path(EXACT, "/a")), place(path=path(PREFIX, "/a"), method="GET")),
        (place(path=path(REGEX, "/.*")), place(path=path(PREFIX, "/a"))),
        (place(path=path(REGEX, "/abc.*")), place(path=path(REGEX, "/.*"))),
        (place(path=path(PREFIX, "/ab")), place(path=path(PREFIX, "/a"), method="GET")),
        (place(method="GET"), place(headers=named("a", "b", "c"))),
        (place(headers=named("a", "b")), place(headers=named("a"), queries=named("q", "r"))),
        (place(queries=named("q", "r")), place(queries=named("q"))),
        (place(age=Age("2026-01-01", "z/z")), place(age=Age("2026-01-02", "a/a"))),
        (place(age=Age("2026-01-01", "a/a")), place(age=Age("2026-01-01", "a/b"))),
        (place(position=(0, 5)), place(position=(1, 0))),
        (place(position=(0, 0)), place(position=(0, 1))),
        (place("a.test"), place("*.test", path=path(EXACT, "/a"))),
        (place("*.a.test"), place("*.test", path=path(EXACT, "/a"))),
        (place("*.test"), place("*", path=path(EXACT, "/a"))),
        (place("a.test"), place("*.longer.test")),
    ],
)
def test_first_goes_before_second(first: Rank, second: Rank) -> None:
    assert first < second


def test_trailing_slash_of_a_prefix_does_not_count() -> None:
    assert place(path=path(PREFIX, "/a/")) == place(path=path(PREFIX, "/a"))
    assert place(path=path(PREFIX, "/")).path == (2, 0)


def test_names_are_compared_as_one_text() -> None:
    dash = Age.of(NamespacedName("a-b", "x"), "")
    slash = Age.of(NamespacedName("a", "x"), "")
    assert dash < slash
