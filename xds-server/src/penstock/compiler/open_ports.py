"""At which port nodes serve each port of a Gateway of a cluster.

Gateways that only the inside of the cluster reaches open at the address of the pod in which Envoy
runs, which all of them share. So each of their ports has a number to itself. It is the same on
every replica: that which its EndpointSlices say, so that it does not move because another one goes,
or else a hash of whose it is, or the next that is free.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.gateway_ports import GatewayPort, HostPort, by_age, ports
from penstock.compiler.generated_services import current
from penstock.compiler.indexes import ALL
from penstock.compiler.settings import Addressing
from penstock.gatewayapi.generated import PortOfService, is_generated
from penstock.incremental.query import query

INSIDE_PORTS = range(16_384, 32_768)
"""Those for Gateways inside: below what Linux takes for connections that go out."""


def port_of_service(at: GatewayPort) -> PortOfService:
    """Return the port of the generated Service for a port of a Gateway."""
    return PortOfService(at.port, "UDP" if at.datagrams else "TCP")


@query
def open_port(db: Database, at: GatewayPort) -> int:
    """Return at which port nodes serve a port of a Gateway; 0 if that is not known yet."""
    if is_inside(db, at.gateway):
        return _inside_ports(db, None).get(at, 0)
    if db.settings.addressing is not Addressing.LOAD_BALANCER:
        return at.port
    found, wanted = current(db, at.gateway), port_of_service(at)
    for one in found.spec.ports if found is not None else ():
        if (one.port, one.protocol) == (wanted.port, wanted.protocol):
            return one.node_port
    return 0


@query
def _inside_ports(db: Database, _: None) -> dict[GatewayPort, int]:
    """Return the number of each port; without one is what finds all of them taken."""
    names = by_age(db, db.gateways.bucket("inside", ALL))
    asking = [at for name in names if is_inside(db, name) for at in ports(db, name)]
    given: dict[GatewayPort, int] = {}
    taken: set[HostPort] = set()
    for choices in (_held, _hashed):
        for at in asking:
            found = (HostPort(number, at.datagrams) for number in choices(db, at))
            free = None if at in given else next((one for one in found if one not in taken), None)
            if free is not None:
                given[at] = free.port
                taken.add(free)
    return given


def _held(db: Database, at: GatewayPort) -> Iterator[int]:
    """Yield what the EndpointSlices of a Gateway's Service say."""
    service, name = current(db, at.gateway), port_of_service(at).name
    for key in db.slices.bucket("service", service.key) if service is not None else ():
        slice_ = db.slices.get(key)
        if slice_ is not None and is_generated(slice_.metadata.labels):
            for one in slice_.ports:
                if one.name == name and one.port is not None and one.port in INSIDE_PORTS:
                    yield one.port


def _hashed(_db: Database, at: GatewayPort) -> Iterator[int]:
    first = zlib.crc32(str(at).encode())
    for step in range(len(INSIDE_PORTS)):
        yield INSIDE_PORTS[(first + step) % len(INSIDE_PORTS)]
