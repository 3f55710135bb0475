"""Hostnames: what matches, intersects and covers agrees on every host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.gatewayapi.hostname import (
    covering,
    covers,
    intersection,
    specificity,
)

LABELS = st.sampled_from(["a", "b", "ab", "test"])
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
HOSTNAMES = st.one_of(HOSTS, HOSTS.map("*.{}".format), st.just("*"))


def plain(hostname: str, host: str) -> bool:
    """Return the definition: labels from the right, at least one for the wildcard."""
    if hostname == "*":
        return True
    wanted, given_labels = hostname.split("."), host.split(".")
    if wanted[0] != "*":
        return wanted == given_labels
    return len(given_labels) >= len(wanted) and given_labels[1 - len(wanted) :] == wanted[1:]


@given(HOSTNAMES, HOSTS)
def test_matching_is_by_whole_labels(hostname: str, host: str) -> None:
    assert covers(hostname, host) == plain(hostname, host)


@given(HOSTNAMES, HOSTNAMES, HOSTS)
def test_intersection_matches_exactly_what_both_match(one: str, other: str, host: str) -> None:
    common = intersection(one, other)
    both = plain(one, host) and plain(other, host)
    assert both == (common is not None and plain(common, host))


@given(HOSTNAMES, HOSTNAMES)
def test_intersection_does_not_depend_on_the_order(one: str, other: str) -> None:
    assert intersection(one, other) == intersection(other, one)


@given(HOSTNAMES, HOSTNAMES, HOSTS)
def test_what_a_hostname_covers_it_matches(wide: str, narrow: str, host: str) -> None:
    if covers(wide, narrow) and plain(narrow, host):
        assert plain(wide, host)


@given(HOSTNAMES, HOSTNAMES)
def test_covering_yields_what_covers(wide: str, narrow: str) -> None:
    assert (wide in covering(narrow)) == covers(wide, narrow)


@given(HOSTNAMES, HOSTNAMES, HOSTS)
def test_of_two_that_match_a_host_the_more_specific_is_covered_by_the_other(
    one: str, other: str, host: str
) -> None:
    if plain(one, host) and plain(other, host) and specificity(one) > specificity(other):
        assert covers(other, one)


@given(st.lists(HOSTNAMES, unique=True), HOSTS)
def test_the_narrowest_of_the_hostnames_of_a_host_is_the_first_that_covers_it(
    hostnames: list[str], host: str
) -> None:
    owner = next((one for one in covering(host) if one in hostnames), None)
    matching = [one for one in hostnames if plain(one, host)]
    assert owner == max(matching, key=specificity, default=None)
