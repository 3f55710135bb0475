"""Addresses that a Gateway asks for, one by one, and which of them it has.

Source: Gateway API v1.7, GatewaySpecAddress and GatewayStatusAddress; GEP-5093. Nothing is reached
from inside of the cluster only, so an address with the routability `Cluster` is never had.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.resources import Gateway, GatewaySpec, GatewaySpecAddress
from penstock.meta.conditions import Condition

SENTINEL = "testing.x-k8s.io/sentinel"
"""A routability that promises nothing; by it the official suite learns whether it is told."""
ADDRESSES_ASSIGNED = "AddressesAssigned"
_SERVED = (None, "", SENTINEL)


class AssignedAddress(msgspec.Struct, frozen=True):
    """An address that a Gateway has."""

    value: str
    """An IP address, or a name."""
    routability: str = ""


class Assigned(msgspec.Struct, frozen=True):
    """What a Gateway has of what it asks for."""

    addresses: tuple[AssignedAddress, ...]
    lacking: tuple[Fault, ...] = ()
    """What it has not, with its path."""


def requested(spec: GatewaySpec) -> tuple[GatewaySpecAddress, ...]:
    """Return the addresses of *spec* that there can be."""
    return tuple(one for one in spec.addresses if one.routability in _SERVED)


def wanted(spec: GatewaySpec) -> tuple[str, ...]:
    """Return those of them that are given, and not left to us."""
    return tuple(one.value for one in requested(spec) if one.value)


def out_of_reach(spec: GatewaySpec) -> tuple[Fault, ...]:
    """Return the addresses of *spec* that there cannot be, and why."""
    return tuple(
        Fault(_path(index), f"routability {one.routability} is not served; leave it out")
        for index, one in enumerate(spec.addresses)
        if one.routability not in _SERVED
    )


def assigned(spec: GatewaySpec, addresses: Sequence[str]) -> Assigned:
    """Return what a Gateway has of what *spec* asks for: one address for each that it asks for.

    Args:
        spec: of the Gateway; without addresses it takes all that there are.
        addresses: by which it is reached.
    """
    if not spec.addresses:
        return Assigned(tuple(map(AssignedAddress, addresses)))
    left = {_number(one): one for one in addresses if _number(one)}
    found: dict[int, AssignedAddress] = {}
    lacking = list(out_of_reach(spec))
    # What is given comes first, so that it is not taken for what is left to us.
    for index, one in sorted(enumerate(spec.addresses), key=lambda each: not each[1].value):
        if one.routability in _SERVED:
            number = _number(one.value) if one.value else next(iter(left), "")
            value = left.pop(number, None)
            if value is not None:
                found[index] = AssignedAddress(value, one.routability or "")
            else:
                text = f"{one.value} is not assigned" if one.value else "there is no address left"
                lacking.append(Fault(_path(index), text))
    ordered = tuple(found[index] for index in sorted(found))
    return Assigned(ordered, tuple(sorted(lacking, key=lambda one: one.path)))


def missing(spec: GatewaySpec, has: Assigned) -> tuple[str, ...]:
    """Return the given addresses that *spec* asks for and that there could be, sorted."""
    have = {_number(one.value) for one in has.addresses}
    return tuple(sorted(one for one in wanted(spec) if _number(one) not in have))


def addresses_assigned(gateway: Gateway, has: Assigned, why_not: str) -> Condition:
    """Return whether a Gateway has the addresses that it asks for.

    Args:
        gateway: the Gateway.
        has: what it has.
        why_not: why it has none, where it asks for none in particular.
    """
    generation = gateway.metadata.generation
    text = "; ".join(map(str, has.lacking)) or why_not
    if not has.addresses:
        return fails(ADDRESSES_ASSIGNED, "NotAssigned", generation, text)
    if has.lacking:
        return fails(ADDRESSES_ASSIGNED, "PartiallyAssigned", generation, text)
    return holds(ADDRESSES_ASSIGNED, "AddressesAssigned", generation)


def _path(index: int) -> str:
    return f"spec.addresses[{index}]"


def _number(address: str) -> str:
    """Return an IP address as all write it, "" for a name."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
