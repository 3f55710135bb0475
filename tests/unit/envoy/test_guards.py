"""The pattern of all names but some."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.envoy.guards import all_but

WORDS = ("te", "trailer", "transfer-encoding", "host", "content-length")


@pytest.mark.parametrize("name", WORDS)
def test_the_words_themselves_do_not_match(name: str) -> None:
    assert re.fullmatch(all_but(WORDS), name) is None


@pytest.mark.parametrize("name", [":status", ":path", ""])
def test_neither_do_pseudo_headers(name: str) -> None:
    assert re.fullmatch(all_but(WORDS), name) is None


@given(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True))
def test_every_other_name_matches(name: str) -> None:
    assert (re.fullmatch(all_but(WORDS), name) is not None) is (name not in WORDS)


@given(st.sampled_from(WORDS), st.integers(0, 20), st.sampled_from(["", "x", "-"]))
def test_beginnings_and_longer_names_match(word: str, length: int, ending: str) -> None:
    name = word[:length] + ending
    expected = name not in WORDS and name != ""
    assert (re.fullmatch(all_but(WORDS), name) is not None) is expected
