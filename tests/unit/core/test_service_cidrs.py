"""Networks of Services: what is in them, and what newer servers say of them."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.core.objects import Broken
from penstock.core.service_cidrs import ServiceCIDR
from penstock.sources.kubernetes.pruning import without_newer_fields
from support import objects


def made(*networks: str) -> ServiceCIDR:
    found = objects.service_cidr(*networks)
    assert isinstance(found, ServiceCIDR)
    return found


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.96.0.1", True), ("10.97.0.1", False), ("fd00:0::7", True), ("fd01::7", False)],
)
def test_an_address_is_in_a_network_of_its_own_family(address: str, inside: bool) -> None:  # noqa: FBT001 - a parameter
    assert (address in made("10.96.0.0/16", "fd00::/112")) is inside


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("10.96.0.0", False),
        ("10.96.255.255", False),
        ("fd00::", False),
        ("fd00::ffff", True),
        ("10.96.1.0", True),
    ],
)
def test_some_addresses_are_no_services(address: str, given: bool) -> None:  # noqa: FBT001 - a parameter
    assert (address in made("10.96.0.0/16", "fd00::/112")) is given


def test_what_is_no_network_is_told_by_its_path() -> None:
    found = objects.service_cidr("10.96.0.0/16", "10.96.0.1/16", "x")
    assert isinstance(found, Broken)
    assert [one.path for one in found.problems] == ["spec.cidrs[1]", "spec.cidrs[2]"]


def test_fields_of_newer_servers_are_left_out() -> None:
    raw: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16"], "newer": 1},
        "status": {"conditions": []},
    }
    assert isinstance(objects.made(raw), Broken)
    assert isinstance(objects.made(without_newer_fields(ServiceCIDR, raw)), ServiceCIDR)
