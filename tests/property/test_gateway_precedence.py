"""Precedence: a total order that does not depend on the order of the input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.gatewayapi.merge import ranked, virtual_host
from penstock.gatewayapi.precedence import Age, Rank, rank
from penstock.gatewayapi.translation import PlacedRoute, TranslatedRoute
from penstock.gatewayapi.verdict import verdict_of
from penstock.ir.route import (
    NamedMatch,
    PathKind,
    PathMatch,
    Respond,
    Route,
    RouteMatch,
    StringMatch,
)
from penstock.meta.names import NamespacedName, ObjectRef, Origin

PATHS = st.builds(
    PathMatch, kind=st.sampled_from(PathKind), value=st.sampled_from(["/", "/a", "/a/", "/ab/c"])
)
NAMED = st.lists(
    st.builds(
        NamedMatch,
        name=st.sampled_from(["a", "b", "c"]),
        match=st.builds(StringMatch, value=st.sampled_from(["1", "2"])),
    ),
    max_size=3,
).map(tuple)
MATCHES = st.builds(
    RouteMatch, path=PATHS, method=st.sampled_from(["", "GET"]), headers=NAMED, queries=NAMED
)
KEYS = st.builds(
    NamespacedName, st.sampled_from(["a", "a-b", "b"]), st.sampled_from(["x", "y", "z"])
)
TIMES = st.sampled_from(["", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])
HOSTNAMES = st.sampled_from(["*", "*.test", "*.a.test", "x.a.test", "test"])
RANKS = st.builds(
    rank,
    MATCHES,
    HOSTNAMES,
    st.builds(Age.of, KEYS, TIMES),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)


@st.composite
def translated(draw: st.DrawFn, key: NamespacedName) -> TranslatedRoute:
    found = draw(st.lists(MATCHES, min_size=1, max_size=4))
    return TranslatedRoute(
        key=key,
        age=Age.of(key, draw(TIMES)),
        routes=tuple(
            PlacedRoute(
                Route(
                    name=f"{key}/{index}/0",
                    match=match,
                    action=Respond(status=500),
                    origin=Origin(ObjectRef("HTTPRoute", key.namespace, key.name)),
                ),
                (index, 0),
            )
            for index, match in enumerate(found)
        ),
        verdict=verdict_of([()], [], 0),
        problems=(),
    )


ROUTES = st.lists(KEYS, min_size=1, max_size=4, unique=True).flatmap(
    lambda keys: st.tuples(*[translated(key) for key in keys])
)


@given(RANKS, RANKS)
def test_of_two_places_one_goes_first(one: Rank, other: Rank) -> None:
    assert [one < other, one == other, one > other].count(True) == 1


@given(RANKS, RANKS, RANKS)
def test_order_is_transitive(one: Rank, two: Rank, three: Rank) -> None:
    low, middle, high = sorted([one, two, three])
    assert low <= middle <= high
    assert low <= high


def rules_of_the_specification(one: dict[str, Any], other: dict[str, Any]) -> int:
    """Compare as the text of the specification goes: criterion after criterion."""
    criteria: tuple[Callable[[dict[str, Any]], Any], ...] = (
        lambda r: -(0 if r["host"].startswith("*") else len(r["host"])),
        lambda r: -(0 if r["host"] == "*" else len(r["host"])),
        lambda r: ["Exact", "RegularExpression", "PathPrefix"].index(r["path"].kind.value),
        lambda r: -len(r["path"].value.rstrip("/") if r["prefix"] else r["path"].value),
        lambda r: not r["match"].method,
        lambda r: -len(r["match"].headers),
        lambda r: -len(r["match"].queries),
        lambda r: r["time"],
        lambda r: r["name"],
        lambda r: r["index"],
    )
    for criterion in criteria:
        left, right = criterion(one), criterion(other)
        if left != right:
            return -1 if left < right else 1
    return 0


@given(ROUTES, st.data())
def test_merged_routes_are_in_the_order_of_the_specification(
    routes: tuple[TranslatedRoute, ...], data: st.DataObject
) -> None:
    asked = [(route, data.draw(HOSTNAMES)) for route in routes]
    expected = [
        {
            "host": host,
            "match": placed.route.match,
            "path": placed.route.match.path,
            "prefix": placed.route.match.path.kind is PathKind.PREFIX,
            "time": route.age.created,
            "name": f"{route.key.namespace}/{route.key.name}",
            "index": placed.position,
            "route": placed.route.name,
        }
        for route, host in asked
        for placed in route.routes
    ]
    expected.sort(key=functools.cmp_to_key(rules_of_the_specification))
    groups = data.draw(st.permutations([ranked(route, host) for route, host in asked]))
    merged = virtual_host("x.a.test", groups)
    assert [one.name for one in merged.routes] == [one["route"] for one in expected]
