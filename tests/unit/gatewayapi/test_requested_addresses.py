"""Addresses that a Gateway asks for, each looked at by itself."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.gatewayapi.requested_addresses import (
    SENTINEL,
    AssignedAddress,
    addresses_assigned,
    assigned,
    wanted,
)
from penstock.gatewayapi.resources import Gateway
from support import objects

ONE, TWO, NAME = "192.0.2.1", "192.0.2.2", "a.test"
CLUSTER = {"routability": "Cluster"}
FAR = {"routability": "x.test/far"}


def gateway(*addresses: dict[str, Any]) -> Gateway:
    made = objects.gateway("gw", addresses=addresses)
    assert isinstance(made, Gateway)
    return made


def has(given: list[dict[str, Any]], *addresses: str) -> tuple[list[str], list[str]]:
    """Return the addresses that are told of, and what is lacking."""
    found = assigned(gateway(*given).spec, addresses)
    return [one.value for one in found.addresses], [str(one) for one in found.lacking]


@pytest.mark.parametrize(
    ("given", "there", "told"),
    [
        ([], [ONE, TWO, NAME], [ONE, TWO, NAME]),
        ([{}], [ONE, TWO], [ONE]),
        ([{"routability": ""}], [ONE], [ONE]),
        ([{"value": TWO}], [ONE, TWO], [TWO]),
        ([{}, {"value": ONE}], [ONE, TWO], [TWO, ONE]),
        ([{"value": "2001:DB8::1"}], ["2001:db8::1"], ["2001:db8::1"]),
        ([{"routability": SENTINEL}], [ONE], [ONE]),
    ],
)
def test_what_is_asked_for_is_told_of_one_for_each_and_nothing_else(
    given: list[dict[str, Any]], there: list[str], told: list[str]
) -> None:
    assert has(given, *there) == (told, [])


@pytest.mark.parametrize(
    ("given", "there", "told", "lacking"),
    [
        ([CLUSTER], [ONE], [], ["spec.addresses[0]: there is no address left"]),
        ([{}, FAR], [ONE, TWO], [ONE], ["spec.addresses[1]: routability x.test/far is not served"]),
        ([{}, {}], [ONE], [ONE], ["spec.addresses[1]: there is no address left"]),
        ([{"value": TWO}, {}], [ONE], [ONE], ["spec.addresses[0]: 192.0.2.2 is not assigned"]),
        ([{"value": ONE} | CLUSTER], [ONE], [], ["spec.addresses[0]: 192.0.2.1 is not"]),
        ([{}], [NAME], [], ["spec.addresses[0]: there is no address left"]),
    ],
)
def test_what_is_lacking_is_told_by_its_path_and_nothing_stands_in_for_it(
    given: list[dict[str, Any]], there: list[str], told: list[str], lacking: list[str]
) -> None:
    addresses, missing = has(given, *there)
    assert addresses == told
    assert len(missing) == len(lacking)
    assert all(text.startswith(words) for text, words in zip(missing, lacking, strict=True))


def test_a_reach_that_is_served_is_told_as_it_was_asked_for() -> None:
    found = assigned(gateway({"routability": SENTINEL}, {"value": TWO}).spec, [ONE, TWO])
    assert found.addresses == (AssignedAddress(ONE, SENTINEL), AssignedAddress(TWO))


def test_an_address_out_of_reach_is_not_asked_for() -> None:
    assert wanted(gateway({"value": ONE} | CLUSTER, {"value": TWO}).spec) == (TWO,)


@pytest.mark.parametrize(
    ("given", "there", "said"),
    [
        ([], [ONE], (True, "AddressesAssigned")),
        ([{}], [ONE], (True, "AddressesAssigned")),
        ([{}, CLUSTER], [ONE], (False, "PartiallyAssigned")),
        ([CLUSTER], [ONE], (False, "NotAssigned")),
        ([], [], (False, "NotAssigned")),
    ],
)
def test_the_condition_says_whether_all_some_or_none_are_there(
    given: list[dict[str, Any]], there: list[str], said: tuple[bool, str]
) -> None:
    one = gateway(*given)
    made = addresses_assigned(one, assigned(one.spec, there), "the pool is used up")
    assert (made.status, made.reason) == said
    assert bool(made.message) is not made.status
