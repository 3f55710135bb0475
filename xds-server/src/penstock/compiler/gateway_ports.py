"""Queries about the ports of Gateways: their listeners, and who asks for what there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.indexes import ALL
from penstock.compiler.merged_listeners import served_listeners
from penstock.compiler.settings import Addressing, Reach
from penstock.gatewayapi.attach import HTTP_PROTOCOLS
from penstock.gatewayapi.hostname import ANY, covering
from penstock.gatewayapi.listener_tls import is_https
from penstock.gatewayapi.merged import PlacedListener
from penstock.gatewayapi.resources import Gateway, Listener
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef


class HostPort(msgspec.Struct, frozen=True, order=True):
    """A port of a machine: those of TCP and UDP have nothing to do with each other."""

    port: int
    datagrams: bool = False


class GatewayPort(msgspec.Struct, frozen=True, order=True):
    """A port of a Gateway: one Envoy listener, shared by the Gateway's listeners on it."""

    gateway: NamespacedName
    port: int
    datagrams: bool = False
    """Whether it is a port of UDP."""

    def __str__(self) -> str:
        """Return the last part of the listener's name, with which its scope keys begin."""
        return f"{self.gateway}/{self.port}{'/udp' if self.datagrams else ''}"

    @property
    def host_port(self) -> HostPort:
        """Return the port alone."""
        return HostPort(self.port, self.datagrams)


def port_of(gateway: NamespacedName, listener: Listener) -> GatewayPort:
    """Return the port that a listener of a Gateway is on."""
    return GatewayPort(gateway, listener.port, listener.protocol == "UDP")


class GatewayHost(msgspec.Struct, frozen=True, order=True):
    """A hostname on a port of a Gateway: exact, "*.a.test" or "*"."""

    at: GatewayPort
    hostname: str


def gateway_ref(name: NamespacedName) -> ObjectRef:
    """Return the Gateway with this name as an object."""
    return ObjectRef(Gateway.kind, name.namespace, name.name)


@query
def ports(db: Database, name: NamespacedName) -> tuple[GatewayPort, ...]:
    """Return the ports on which a Gateway of ours serves.

    A lab has no addresses of a cluster.
    """
    if db.settings.reach is not Reach.CLUSTER and is_inside(db, name):
        return ()
    return tuple(sorted({port_of(name, one.own) for one in served_listeners(db, name)}))


@query
def listeners_on(db: Database, at: GatewayPort) -> tuple[Listener, ...]:
    """Return the accepted listeners of a port, whether they have a certificate or not."""
    return tuple(one.listener for one in placed_on(db, at))


@query
def http_listeners_on(db: Database, at: GatewayPort) -> tuple[Listener, ...]:
    """Return those of them that take requests."""
    return tuple(one for one in listeners_on(db, at) if one.protocol in HTTP_PROTOCOLS)


@query
def placed_on(db: Database, at: GatewayPort) -> tuple[PlacedListener, ...]:
    """Return the accepted listeners of a port with whose they are."""
    served = served_listeners(db, at.gateway)
    return tuple(one for one in served if port_of(at.gateway, one.own) == at)


@query
def _by_hostname(db: Database, at: GatewayPort) -> dict[str, Listener]:
    """Return the listeners of a port by their hostnames, which tell them apart."""
    return {one.hostname or ANY: one for one in listeners_on(db, at)}


def covering_listeners(db: Database, key: GatewayHost) -> Sequence[Listener]:
    """Return the listeners whose hostnames cover a hostname, the narrowest first."""
    here = _by_hostname(db, key.at)
    return [here[wide] for wide in covering(key.hostname) if wide in here]


@query
def owner(db: Database, key: GatewayHost) -> Listener | None:
    """Return the listener that a hostname belongs to: the one with the narrowest of its own."""
    found = covering_listeners(db, key)
    return found[0] if found else None


@query
def scheme(db: Database, at: GatewayPort) -> str:
    """Return by which scheme clients come to a port."""
    return "https" if any(map(is_https, listeners_on(db, at))) else "http"


def taken_by(db: Database, at: GatewayPort) -> GatewayPort | None:
    """Return which other Gateway has a port of all nodes that *at* needs; None if it is free."""
    holder = None if is_inside(db, at.gateway) else port_holder(db, at.host_port)
    return None if holder == at else holder


def why_taken(db: Database, at: GatewayPort) -> str:
    """Return which other Gateway has a port of all nodes, in words; "" if it is free."""
    holder = taken_by(db, at)
    return (
        "" if holder is None else f"port {at.port} of the nodes is {gateway_ref(holder.gateway)}'s"
    )


@query
def port_holder(db: Database, wanted: HostPort) -> GatewayPort | None:
    """Return which Gateway has a port of all nodes, the oldest; None: each has its own.

    Who comes later takes nothing from who is there.
    """
    if db.settings.reach is not Reach.CLUSTER or db.settings.addressing is not Addressing.NODES:
        return None
    return _port_holders(db, None).get(wanted)


@query
def _port_holders(db: Database, _: None) -> dict[HostPort, GatewayPort]:
    """Return which Gateway has each port of all nodes."""
    found: dict[HostPort, GatewayPort] = {}
    for at in every_port(db):
        found.setdefault(at.host_port, at)
    return found


def every_port(db: Database) -> Iterator[GatewayPort]:
    """Yield the ports of the Gateways that are reached from outside, in the order of their age."""
    for name in by_age(db, db.gateways.bucket("all", ALL)):
        if not is_inside(db, name):
            yield from ports(db, name)


def by_age(db: Database, names: Iterable[NamespacedName]) -> list[NamespacedName]:
    """Return Gateways, the oldest first, then in the order of names."""
    return sorted(names, key=lambda one: (created(db, one), one))


@query
def created(db: Database, name: NamespacedName) -> str:
    """Return when a Gateway was made, as RFC 3339."""
    gateway = db.gateways.get(name)
    return "" if gateway is None else gateway.metadata.creation_timestamp
