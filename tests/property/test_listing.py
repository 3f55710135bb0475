"""A list gives the same objects whether it is read piece by piece or as a whole."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.sources.kubernetes.listing import Listing
from penstock.sources.kubernetes.messages import UnreadableAnswerError, read_metadata, read_page

Json = dict[str, Any]


def named(name: str) -> Json:
    return {"name": name, "resourceVersion": "1"}


def plain(name: str) -> Json:
    return {"metadata": named(name), "data": {"x": name}}


def nesting(name: str, inner: list[Json]) -> Json:
    """Return an object that has objects within that begin as it does itself."""
    return {"metadata": named(name), "spec": {"templates": inner}}


def typed(one: Json) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", **one}


def late(name: str) -> Json:
    return {"data": {}, "metadata": named(name)}


NAMES = st.sampled_from(["a", "b", "web", '},{"metadata":{"name":"', '"items":['])
BARE = st.one_of(
    st.builds(plain, NAMES),
    st.builds(nesting, NAMES, st.lists(st.builds(plain, NAMES), max_size=3)),
)
TYPED = st.builds(typed, BARE)
ITEMS = st.one_of(
    st.lists(BARE, max_size=6),
    st.lists(TYPED, max_size=6),
    st.lists(st.one_of(BARE, TYPED, st.builds(late, NAMES)), max_size=6),
)


def go_struct(found: list[Json]) -> Json:
    return {"kind": "List", "metadata": {"resourceVersion": "9", "continue": "c"}, "items": found}


def go_map(found: list[Json]) -> Json:
    return {"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"continue": "c"}}


def written(body: Json, *, spaced: bool) -> bytes:
    return json.dumps(body, separators=None if spaced else (",", ":")).encode()


def take_into(found: list[Json], raw: msgspec.Raw) -> None:
    read_metadata(raw)
    found.append(msgspec.json.decode(raw))


def cut(body: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({0, len(body), *(one % (len(body) + 1) for one in at)})
    return [body[a:b] for a, b in itertools.pairwise(ends)]


@given(
    items=ITEMS,
    head=st.sampled_from([go_struct, go_map]),
    spaced=st.booleans(),
    at=st.lists(st.integers(min_value=0, max_value=4000), max_size=12),
)
def test_pieces_give_what_the_whole_gives(
    items: list[Json], head: Any, *, spaced: bool, at: list[int]
) -> None:
    body = written(head(items), spaced=spaced)
    found: list[Json] = []
    listing = Listing(lambda raw: take_into(found, raw))
    for piece in cut(body, at):
        listing.chunk(piece)
    page = listing.end()
    assert found == items
    assert page.metadata == read_page(body).metadata


@given(items=ITEMS, head=st.sampled_from([go_struct, go_map]), end=st.integers(1, 4000))
def test_list_that_is_cut_off_is_refused(items: list[Json], head: Any, end: int) -> None:
    body = written(head(items), spaced=False)
    found: list[Json] = []
    listing = Listing(lambda raw: take_into(found, raw))
    listing.chunk(body[: -(end % len(body)) or -1])
    with pytest.raises(UnreadableAnswerError):
        listing.end()
    assert found == items[: len(found)]


@given(items=ITEMS, bad=st.integers(0, 6), at=st.lists(st.integers(0, 4000), max_size=12))
def test_list_with_something_that_is_no_object_is_refused(
    items: list[Json], bad: int, at: list[int]
) -> None:
    strange: Json = {"metadata": "none"}
    body = written(go_struct([*items[:bad], strange, *items[bad:]]), spaced=False)
    found: list[Json] = []
    listing = Listing(lambda raw: take_into(found, raw))
    for piece in cut(body, at):
        listing.chunk(piece)
    with pytest.raises(UnreadableAnswerError):
        listing.end()
    assert found == items[:bad]


@pytest.mark.parametrize("head", [go_struct, go_map])
@pytest.mark.parametrize("kind", [{}, {"apiVersion": "v1", "kind": "ConfigMap"}])
def test_objects_are_given_away_while_the_list_comes(head: Any, kind: Json) -> None:
    body = written(head([{**kind, "metadata": {"name": f"c-{n}"}} for n in range(5)]), spaced=False)
    found: list[Json] = []
    listing = Listing(lambda raw: take_into(found, raw))
    listing.chunk(body[: body.index(b"c-4")])
    assert [one["metadata"]["name"] for one in found] == ["c-0", "c-1", "c-2", "c-3"]
