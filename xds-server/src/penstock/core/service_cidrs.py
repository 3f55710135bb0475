"""The kind ServiceCIDR: networks of which Services get their addresses.

Source: Kubernetes, networking.k8s.io/v1 (since 1.33; v1beta1 since 1.31).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import ClassVar

from typing_extensions import override

from penstock.core.objects import ApiStruct, Object, names
from penstock.meta.problems import Problem

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ServiceCIDRSpec(ApiStruct, frozen=True, kw_only=True):
    """Networks, at most one of each family."""

    cidrs: tuple[str, ...] = ()

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem for each text that is not a network."""
        for index, text in enumerate(self.cidrs):
            if not _is_network(text):
                place = f"cidrs[{index}]"
                yield Problem(place, f"{text!r} is not a network", "write it as 10.96.0.0/16")


class ServiceCIDR(Object, frozen=True, kw_only=True):
    """networking.k8s.io ServiceCIDR; not every cluster knows the kind."""

    api_versions: ClassVar[tuple[str, ...]] = (
        "networking.k8s.io/v1",
        "networking.k8s.io/v1beta1",
    )
    kind: ClassVar[str] = "ServiceCIDR"
    namespaced: ClassVar[bool] = False
    known_unused: ClassVar[frozenset[str]] = names("status")

    spec: ServiceCIDRSpec = ServiceCIDRSpec()

    def __contains__(self, address: str) -> bool:
        """Tell whether *address* is one that Services are given of the networks.

        The first of a network is nobody's, nor is the last one of IPv4.
        """
        number = ipaddress.ip_address(address)
        return any(_gives(ipaddress.ip_network(one), number) for one in self.spec.cidrs)


def _gives(network: Network, number: Address) -> bool:
    if number not in network or number == network.network_address:
        return False
    return isinstance(number, ipaddress.IPv6Address) or number != network.broadcast_address


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
