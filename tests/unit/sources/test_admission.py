from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from penstock.core.decode import decode
from penstock.core.kinds import Service
from penstock.sources.admission import IPV4_NETWORK, IPV6_NETWORK, ServiceAddresses
from support.source_suite import service


def decoded(name: str, **spec: Any) -> Service:
    found = decode(Service, service(name, **spec))
    assert isinstance(found, Service), found
    return found


def admitted(one: Service) -> Service:
    addresses = ServiceAddresses()
    addresses.put(one)
    return addresses.admit(one)


def test_service_gets_an_address_of_each_family() -> None:
    v4, v6 = (ipaddress.ip_address(address) for address in admitted(decoded("a")).addresses)
    assert v4 in ipaddress.ip_network(IPV4_NETWORK)
    assert v6 in ipaddress.ip_network(IPV6_NETWORK)
    assert admitted(decoded("a")).spec.ip_families == ("IPv4", "IPv6")


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({"ipFamilies": ["IPv6"]}, ("IPv6",)),
        ({"ipFamilies": ["IPv6", "IPv4"]}, ("IPv6", "IPv4")),
        ({"ipFamilyPolicy": "SingleStack"}, ("IPv4",)),
        ({"type": "NodePort"}, ("IPv4", "IPv6")),
        ({"type": "LoadBalancer"}, ("IPv4", "IPv6")),
    ],
)
def test_families_are_those_that_the_service_asks_for(
    spec: dict[str, Any], families: tuple[str, ...]
) -> None:
    one = admitted(decoded("a", **spec))
    assert one.spec.ip_families == families
    assert len(one.addresses) == len(families)
    assert one.spec.cluster_ip == one.addresses[0]


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None"},
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "externalName": "example.com"},
    ],
)
def test_headless_and_external_services_get_none(spec: dict[str, Any]) -> None:
    one = decoded("a", **spec)
    assert admitted(one) == one


def test_given_addresses_stay() -> None:
    given = ["10.96.0.10", "fd96::10"]
    assert admitted(decoded("dns", clusterIP=given[0], clusterIPs=given)).addresses == tuple(given)
    assert admitted(decoded("far", clusterIP="192.0.2.1")).addresses == ("192.0.2.1",)


def test_reserved_addresses_are_never_chosen() -> None:
    addresses = ServiceAddresses()
    reserved = ipaddress.ip_network("10.96.0.0/24")
    for number in range(500):
        one = decoded(f"s{number}")
        addresses.put(one)
        assert ipaddress.ip_address(addresses.admit(one).addresses[0]) not in reserved
