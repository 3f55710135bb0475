"""Addresses that a Gateway asks for, one by one, and which of them it has.

Source: Gateway API v1.7, GatewaySpecAddress and GatewayStatusAddress; GEP-5093. An address with the
routability `Cluster` is that of the Service which is generated for the Gateway.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

import msgspec

from penstock.gatewayapi.conditions import fails, holds
from penstock.gatewayapi.faults import Fault
from penstock.gatewayapi.resources import Gateway, GatewaySpec, GatewaySpecAddress
from penstock.meta.conditions import Condition

SENTINEL = "testing.x-k8s.io/sentinel"
"""A routability that promises nothing; by it the official suite learns whether it is told."""
CLUSTER = "Cluster"
"""The routability of what is reached from inside of the cluster."""
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
    """Return the addresses of *spec* that are those of Gateways, and not of the cluster alone."""
    return tuple(one for one in spec.addresses if one.routability in _SERVED)


def wanted(spec: GatewaySpec) -> tuple[str, ...]:
    """Return those of them that are given, and not left to us."""
    return tuple(one.value for one in requested(spec) if one.value)


def inside(spec: GatewaySpec) -> tuple[GatewaySpecAddress, ...]:
    """Return the addresses of *spec* that only the inside of the cluster is to reach."""
    return tuple(one for one in spec.addresses if one.routability == CLUSTER)


def wanted_inside(spec: GatewaySpec) -> tuple[str, ...]:
    """Return those of them that *spec* asks for by their values, as all write them.

    What is no IP address is passed over: a Gateway that has such a thing is refused.
    """
    return tuple(number for one in inside(spec) if one.value and (number := _number(one.value)))


def may_be_inside(spec: GatewaySpec) -> bool:
    """Tell whether some address of *spec* is for the inside of the cluster, or may turn out so."""
    return bool(inside(spec)) or any(one.value and not one.routability for one in spec.addresses)


def with_reach(spec: GatewaySpec, is_of_cluster: Callable[[str], bool]) -> GatewaySpec:
    """Return *spec* with the reach of addresses that do not say it but are those of the cluster.

    Args:
        spec: of the Gateway.
        is_of_cluster: tells it of an IP address.
    """
    addresses = tuple(
        msgspec.structs.replace(one, routability=CLUSTER)
        if one.value and not one.routability and _number(one.value) and is_of_cluster(one.value)
        else one
        for one in spec.addresses
    )
    same = addresses == spec.addresses
    return spec if same else msgspec.structs.replace(spec, addresses=addresses)


def only_inside(spec: GatewaySpec) -> bool:
    """Tell whether a Gateway is to be reached from inside of the cluster, and from nowhere else."""
    return bool(inside(spec)) and not requested(spec)


def out_of_reach(spec: GatewaySpec) -> tuple[Fault, ...]:
    """Return the addresses of *spec* that there cannot be, and why."""
    return tuple(
        Fault(_path(index), f"routability {one.routability} is not served; leave it out")
        for index, one in enumerate(spec.addresses)
        if not _is_served(one)
    )


def assigned(
    spec: GatewaySpec, addresses: Sequence[str], of_cluster: Sequence[str] = ()
) -> Assigned:
    """Return what a Gateway has of what *spec* asks for: one address for each that it asks for.

    Args:
        spec: of the Gateway; without addresses it takes all that there are.
        addresses: by which it is reached.
        of_cluster: by which it is reached from inside of the cluster.
    """
    if not spec.addresses:
        return Assigned(tuple(map(AssignedAddress, addresses)))
    outer, inner = (
        {number: one for one in each if (number := _number(one))}
        for each in (addresses, of_cluster)
    )
    found: dict[int, AssignedAddress] = {}
    lacking = list(out_of_reach(spec))
    # What is given comes first, so that it is not taken for what is left to us.
    for index, one in sorted(enumerate(spec.addresses), key=lambda each: not each[1].value):
        if _is_served(one):
            left = inner if one.routability == CLUSTER else outer
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


def _is_served(one: GatewaySpecAddress) -> bool:
    return one.routability in (*_SERVED, CLUSTER)


def _path(index: int) -> str:
    return f"spec.addresses[{index}]"


def _number(address: str) -> str:
    """Return an IP address as all write it, "" for a name."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""
