"""Queries about the ports of Gateways: their listeners, and who asks for what there."""

from __future__ import annotations

import msgspec

from penstock.compiler.database import ALL, Database
from penstock.compiler.merged_listeners import served_listeners
from penstock.compiler.settings import Addressing, Reach
from penstock.gatewayapi.attach import HTTP_PROTOCOLS
from penstock.gatewayapi.hostname import ANY, covers, specificity
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


class ListenerOf(msgspec.Struct, frozen=True, order=True):
    """A listener of a Gateway, by its place among all of them."""

    gateway: NamespacedName
    listener: str


class GatewayHost(msgspec.Struct, frozen=True, order=True):
    """A hostname on a port of a Gateway: exact, "*.a.test" or "*"."""

    at: GatewayPort
    hostname: str


def gateway_ref(name: NamespacedName) -> ObjectRef:
    """Return the Gateway with this name as an object."""
    return ObjectRef(Gateway.kind, name.namespace, name.name)


@query
def ports(db: Database, name: NamespacedName) -> tuple[GatewayPort, ...]:
    """Return the ports on which a Gateway of ours serves."""
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


def owner(db: Database, key: GatewayHost) -> Listener | None:
    """Return the listener that a hostname belongs to: the one with the narrowest of its own."""
    here = listeners_on(db, key.at)
    possible = [one for one in here if covers(one.hostname or ANY, key.hostname)]
    return max(possible, key=lambda one: specificity(one.hostname or ANY), default=None)


@query
def scheme(db: Database, at: GatewayPort) -> str:
    """Return by which scheme clients come to a port."""
    return "https" if any(map(is_https, listeners_on(db, at))) else "http"


@query
def port_holder(db: Database, wanted: HostPort) -> GatewayPort | None:
    """Return which Gateway has a port of all nodes, the first by name; None: each has its own."""
    if db.settings.reach is not Reach.CLUSTER or db.settings.addressing is not Addressing.NODES:
        return None
    for name in db.gateways.bucket("all", ALL):
        at = GatewayPort(name, wanted.port, wanted.datagrams)
        if at in ports(db, name):
            return at
    return None
