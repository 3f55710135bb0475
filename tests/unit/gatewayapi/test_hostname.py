"""Hostnames match, intersect and are ordered as Gateway API says."""

from __future__ import annotations

import pytest

from penstock.gatewayapi.hostname import covering, covers, intersection, specificity


@pytest.mark.parametrize(
    ("hostname", "host", "matching"),
    [
        ("a.test", "a.test", True),
        ("a.test", "b.a.test", False),
        ("*.a.test", "x.a.test", True),
        ("*.a.test", "y.x.a.test", True),
        ("*.a.test", "a.test", False),
        ("*.a.test", "xa.test", False),
        ("*.a.test", "x.b.test", False),
        ("*", "anything", True),
    ],
)
def test_hostname_matches_host(hostname: str, host: str, *, matching: bool) -> None:
    assert covers(hostname, host) is matching


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("a.test", "a.test", "a.test"),
        ("a.test", "b.test", None),
        ("*.a.test", "x.a.test", "x.a.test"),
        ("*.a.test", "a.test", None),
        ("*.a.test", "*.a.test", "*.a.test"),
        ("*.test", "*.a.test", "*.a.test"),
        ("*.a.test", "*.b.test", None),
        ("*.a.test", "*.xa.test", None),
        ("*", "*.a.test", "*.a.test"),
        ("*", "a.test", "a.test"),
        ("*", "*", "*"),
    ],
)
def test_intersection_is_what_both_match(one: str, other: str, common: str | None) -> None:
    assert intersection(one, other) == common
    assert intersection(other, one) == common


def test_wildcard_does_not_cover_its_own_suffix_or_any_host() -> None:
    assert not covers("*.a.test", "a.test")
    assert not covers("*.a.test", "*")
    assert not covers("*.x.a.test", "*.a.test")


def test_exact_hostname_goes_before_wildcard_and_longer_wildcard_before_shorter() -> None:
    hostnames = ["*", "*.test", "x.a.test", "*.a.test"]
    assert sorted(hostnames, key=specificity, reverse=True) == [
        "x.a.test",
        "*.a.test",
        "*.test",
        "*",
    ]


def test_exact_hostname_goes_before_longer_wildcard() -> None:
    assert specificity("a.test") > specificity("*.a-very-long-name.test")


@pytest.mark.parametrize(
    ("host", "best"),
    [("x.a.test", "x.a.test"), ("y.a.test", "*.a.test"), ("a.test", "*.test"), ("other", "*")],
)
def test_the_narrowest_hostname_that_covers_a_host_comes_first(host: str, best: str) -> None:
    there = {"*", "*.test", "*.a.test", "x.a.test"}
    assert next(one for one in covering(host) if one in there) == best
