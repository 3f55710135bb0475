"""Things in portions: one that comes or goes changes one portion."""

from __future__ import annotations

from penstock.compiler.portions import PORTION, portions

NAMES = [f"route-{index}" for index in range(20 * PORTION)]


def test_every_thing_is_in_one_portion_in_the_given_order() -> None:
    found = portions(NAMES, str)
    assert sorted(name for one in found for name in one) == sorted(NAMES)
    assert all(sorted(one, key=NAMES.index) == list(one) for one in found)
    assert max(map(len, found)) < 3 * PORTION


def test_one_thing_less_changes_one_portion() -> None:
    before, after = set(portions(NAMES, str)), set(portions(NAMES[1:], str))
    assert len(before - after) == len(after - before) == 1


def test_nothing_has_no_portion() -> None:
    assert portions([], str) == []
