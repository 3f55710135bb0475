"""Pools of addresses, as they are written."""

from __future__ import annotations

import pytest

from penstock.core.ranges import AddressRanges, RangesError

MIXED = "192.0.2.8/31, 192.0.2.1 - 192.0.2.3 ,198.51.100.7"


def test_addresses_are_numbered_in_the_order_in_which_they_are_written() -> None:
    ranges = AddressRanges(MIXED)
    assert [ranges[index] for index in range(len(ranges))] == [
        "192.0.2.8", "192.0.2.9", "192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.7",
    ]  # fmt: skip


def test_every_address_finds_its_number_again() -> None:
    ranges = AddressRanges(MIXED)
    assert [ranges.index(ranges[index]) for index in range(len(ranges))] == list(range(6))


@pytest.mark.parametrize("address", ["192.0.2.10", "192.0.2.0", "192.0.2.4", "::1", "", "x"])
def test_other_addresses_have_no_number(address: str) -> None:
    assert address not in AddressRanges(MIXED)


def test_addresses_may_be_of_the_other_family() -> None:
    ranges = AddressRanges("fd00::10-fd00::1f")
    assert (len(ranges), ranges[15]) == (16, "fd00::1f")
    assert ranges.index("fd00:0::11") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not appear to be"),
        ("192.0.2.1/24", "host bits"),
        ("192.0.2.9-192.0.2.1", "not behind the first"),
        ("192.0.2.1-fd00::1", "not behind the first"),
        ("192.0.2.0/24,192.0.2.7", "192.0.2.7 is in it twice"),
        ("192.0.2.0/24,fd00::/120", "IPv4 and IPv6"),
    ],
)
def test_what_is_no_pool_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(RangesError, match=why):
        AddressRanges(text)
