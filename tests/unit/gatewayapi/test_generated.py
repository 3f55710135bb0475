"""EndpointSlices that are generated: no larger than an API server takes them."""

from __future__ import annotations

from penstock.core.kinds import Service
from penstock.gatewayapi.generated import (
    MOST_ENDPOINTS,
    Entrance,
    Generated,
    PortOfService,
    Purpose,
    slices,
)
from penstock.meta.names import NamespacedName
from support import objects

PORT = PortOfService(80, "TCP")


def led_to(*entrances: Entrance) -> tuple[Generated, ...]:
    found = objects.generated_service("gw")
    assert isinstance(found, Service)
    service = NamespacedName("shop", "gw-penstock")
    purpose = Purpose(service=service, value="gw", labels={}, owner=None)
    return slices(purpose, found, entrances, {PORT: 8080})


def test_a_large_cluster_is_in_several_and_each_address_in_one() -> None:
    addresses = [
        f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}" for at in range(2 * MOST_ENDPOINTS + 1)
    ]
    made = led_to(*map(Entrance, [*addresses, "fd00::1"]))
    assert [one.ref.name for one in made] == [
        "gw-penstock-ipv4", "gw-penstock-ipv4-2", "gw-penstock-ipv4-3", "gw-penstock-ipv6",
    ]  # fmt: skip
    sizes = [len(one.body["endpoints"]) for one in made]
    assert sizes == [MOST_ENDPOINTS, MOST_ENDPOINTS, 1, 1]
    told = [each["addresses"][0] for one in made for each in one.body["endpoints"]]
    assert sorted(told) == sorted([*addresses, "fd00::1"])
    assert len({str(one.body["ports"]) for one in made}) == 1


def test_exactly_as_many_as_one_holds_are_in_one() -> None:
    some = [Entrance(f"10.0.{at >> 8}.{at & 255}") for at in range(MOST_ENDPOINTS)]
    assert [one.ref.name for one in led_to(*some)] == ["gw-penstock-ipv4"]
