"""Queries about where the Services lead to that are generated for Gateways."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.compiler.claims import assigned
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import is_inside
from penstock.compiler.gateway_ports import by_age, gateway_ref, ports, taken_by
from penstock.compiler.generated_services import current, purpose, service_of
from penstock.compiler.indexes import ALL
from penstock.compiler.nodes import places
from penstock.compiler.open_ports import open_port, port_of_service
from penstock.compiler.settings import Addressing, Reach
from penstock.gatewayapi import generated
from penstock.gatewayapi.generated import Entrance, Generated
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName, ObjectRef


@query
def slices_of(db: Database, name: NamespacedName) -> tuple[Generated, ...]:
    """Return where the Service of a Gateway should lead to."""
    about, found = purpose(db, name), current(db, name)
    if about is None or found is None or not found.metadata.uid or service_of(db, name) is None:
        return ()
    numbers = {
        port_of_service(at): number
        for at in ports(db, name)
        if taken_by(db, at) is None and (number := open_port(db, at))
    }
    return generated.slices(about, found, _entrances(db, name), numbers)


def _entrances(db: Database, name: NamespacedName) -> Iterator[Entrance]:
    ref = gateway_ref(name)
    if db.settings.addressing is Addressing.POOL and not is_inside(db, name):
        return (Entrance(one) for one in assigned(db, ref).addresses)
    return (Entrance(place.address, place.node) for place in places(db, ref))


@query
def addresses_of_cluster(db: Database, name: NamespacedName) -> tuple[str, ...]:
    """Return the addresses of a Gateway's Service, by which the inside of the cluster reaches it.

    While the Service leads nowhere, there are none.
    """
    found = current(db, name)
    return found.addresses if found is not None and slices_of(db, name) else ()


@query
def every_generated(db: Database, _: None) -> dict[ObjectRef, Generated]:
    """Return all objects that there should be; of two that want one name the older has it."""
    names = db.gateways.bucket("all", ALL) if db.settings.reach is Reach.CLUSTER else ()
    found: dict[ObjectRef, Generated] = {}
    for name in by_age(db, names):
        service = service_of(db, name)
        if service is not None and service.ref not in found:
            found[service.ref] = service
            found.update((one.ref, one) for one in slices_of(db, name))
    return found
