"""How a Gateway is reached, for its status."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from penstock.compiler.claims import assigned
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of, is_inside, ours
from penstock.compiler.gateway_ports import gateway_ref, port_of, why_taken
from penstock.compiler.generated_services import (
    asked_inside,
    can_be_inside,
    current,
    purpose,
    why_no_service,
)
from penstock.compiler.generated_slices import addresses_of_cluster
from penstock.compiler.merged_listeners import placed_listeners, served_listeners
from penstock.compiler.nodes import NOBODY_SERVES, Place, places, somebody_serves
from penstock.compiler.open_ports import open_port
from penstock.compiler.settings import Addressing, Reach
from penstock.gatewayapi.listeners import PORT_UNAVAILABLE, Reason
from penstock.gatewayapi.requested_addresses import inside, wanted
from penstock.gatewayapi.resources import MAX_ADDRESSES, Gateway
from penstock.gatewayapi.status import ADDRESS_NOT_ASSIGNED, ADDRESS_NOT_USABLE, NO_RESOURCES
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName


class ReachedAt(msgspec.Struct, frozen=True, kw_only=True):
    """How a Gateway is reached, or why it is not."""

    addresses: tuple[str, ...] = ()
    """IP addresses, and where a load balancer is reached by names, these."""
    of_cluster: tuple[str, ...] = ()
    """IP addresses that only the inside of the cluster reaches, if it asks for such."""
    fault: Reason | None = None
    """Why it has not the addresses that it should have."""
    closed: dict[str, str] = {}
    """Places of listeners that are not open anywhere yet, and why."""
    taken: dict[str, Reason] = {}
    """Places of listeners whose port is somebody else's, and whose."""


@query
def reached_at(db: Database, name: NamespacedName) -> ReachedAt:
    """Return how a Gateway is reached."""
    gateway = ours(db, name)
    if gateway is None or fault_of(db, name) is not None:
        return ReachedAt()
    if is_inside(db, name):
        return _at_cluster(db, gateway)
    found = _from_outside(db, gateway)
    if not inside(gateway.spec):
        return found
    return msgspec.structs.replace(found, of_cluster=addresses_of_cluster(db, name))


def _at_cluster(db: Database, gateway: Gateway) -> ReachedAt:
    """Return how the inside of the cluster reaches a Gateway: by its Service."""
    name = gateway.key
    addresses, about = addresses_of_cluster(db, name), purpose(db, name)
    fault: Reason | None = None
    if about is None:
        text = "a lab has no addresses of a cluster; leave routability out"
        fault = Reason(ADDRESS_NOT_ASSIGNED, text)
    elif not can_be_inside(db, name):
        refused = (f"{one.address} {one.why_not}" for one in asked_inside(db, name))
        fault = Reason(ADDRESS_NOT_ASSIGNED, "; ".join(refused))
    elif current(db, name) is None:
        text = _why_not_there(db, name) or f"Service {about.service} is not there yet"
        fault = Reason(ADDRESS_NOT_ASSIGNED, text)
    elif not (places(db, gateway_ref(name)) and somebody_serves(db, None)):
        fault = Reason(NO_RESOURCES, NOBODY_SERVES)
    elif not addresses:
        text = f"Service {about.service} has no address yet"
        fault = Reason(ADDRESS_NOT_ASSIGNED, text)
    reached = _reached(db, gateway, addresses, fault)
    return msgspec.structs.replace(reached, addresses=(), of_cluster=addresses)


def _from_outside(db: Database, gateway: Gateway) -> ReachedAt:
    name, settings = gateway.key, db.settings
    if settings.reach is Reach.CLUSTER and settings.addressing is Addressing.NODES:
        return _at_nodes(db, gateway, places(db, gateway_ref(name)))
    if settings.reach is Reach.CLUSTER and settings.addressing is Addressing.LOAD_BALANCER:
        return _at_load_balancer(db, gateway)
    assignment = assigned(db, gateway_ref(name))
    fault = None
    if assignment.refused:
        text = "; ".join(f"{address} {why}" for address, why in assignment.refused)
        fault = Reason(ADDRESS_NOT_USABLE, text)
    elif assignment.lacking:
        fault = Reason(ADDRESS_NOT_ASSIGNED, assignment.lacking)
    elif settings.reach is Reach.CLUSTER and not somebody_serves(db, None):
        fault = Reason(NO_RESOURCES, NOBODY_SERVES)
    return _reached(db, gateway, assignment.addresses, fault)


def _at_nodes(db: Database, gateway: Gateway, found: Iterable[Place]) -> ReachedAt:
    addresses = tuple(sorted({place.address for place in found}, key=_number))
    known = frozenset(map(_number, addresses))
    strange = [one for one in wanted(gateway.spec) if _number(one) not in known]
    fault = None
    if strange:
        text = f"{', '.join(strange)}: Gateways here have the addresses of the nodes"
        fault = Reason(ADDRESS_NOT_USABLE, text)
    elif not addresses or not somebody_serves(db, None):
        fault = Reason(NO_RESOURCES, NOBODY_SERVES)
    taken: dict[str, Reason] = {}
    for one in served_listeners(db, gateway.key):
        text = why_taken(db, port_of(gateway.key, one.own))
        if text:
            taken[one.place] = Reason(PORT_UNAVAILABLE, text)
    reached = _reached(db, gateway, addresses[:MAX_ADDRESSES], fault)
    return msgspec.structs.replace(reached, taken=taken)


def _at_load_balancer(db: Database, gateway: Gateway) -> ReachedAt:
    """Return what the load balancer of the generated Service says."""
    found, about = current(db, gateway.key), purpose(db, gateway.key)
    entries = found.status.load_balancer.ingress if found is not None else ()
    addresses = tuple(dict.fromkeys(text for one in entries if (text := one.ip or one.hostname)))
    known = frozenset(_number(one) for one in addresses if is_ip(one))
    lacking = [one for one in wanted(gateway.spec) if _number(one) not in known]
    fault = None
    if about is None or found is None:
        text = _why_not_there(db, gateway.key) or "its Service is not there yet"
        fault = Reason(ADDRESS_NOT_ASSIGNED, text)
    elif addresses and lacking:
        text = f"{', '.join(lacking)} is not what the load balancer of Service {about.service} has"
        fault = Reason(ADDRESS_NOT_USABLE, text)
    elif not addresses:
        text = f"the load balancer of Service {about.service} has no address yet"
        fault = Reason(ADDRESS_NOT_ASSIGNED, text)
    elif not somebody_serves(db, None):
        fault = Reason(NO_RESOURCES, NOBODY_SERVES)
    unopened = {
        one.place: f"port {one.own.port} has no node port yet"
        for one in served_listeners(db, gateway.key)
        if not open_port(db, port_of(gateway.key, one.own))
    }
    reached = _reached(db, gateway, addresses[:MAX_ADDRESSES], fault)
    return msgspec.structs.replace(reached, closed=unopened | reached.closed)


def _why_not_there(db: Database, name: NamespacedName) -> str:
    """Return why a Gateway has no Service; "" if it soon will have."""
    why = why_no_service(db, name)
    return "" if why is None else why.message


def _reached(
    db: Database, gateway: Gateway, addresses: tuple[str, ...], fault: Reason | None
) -> ReachedAt:
    closed: dict[str, str] = {}
    if fault is not None and not addresses:
        closed = {one.place: fault.message for one in placed_listeners(db, gateway.key)}
    return ReachedAt(addresses=addresses, fault=fault, closed=closed)


def is_ip(address: str) -> bool:
    """Return whether *address* is an IP address, and not a name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _number(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)
