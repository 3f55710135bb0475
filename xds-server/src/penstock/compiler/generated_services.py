"""Queries about the Services that are generated for Gateways, and where these lead to.

In every cluster a Gateway has a Service of its own, by whose name pods reach it. Where a cloud
gives Gateways their addresses, it gives them to these Services.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock.compiler.claims import assigned
from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of, ours
from penstock.compiler.gateway_ports import (
    GatewayPort,
    created,
    gateway_ref,
    port_holder,
    ports,
)
from penstock.compiler.indexes import ALL
from penstock.compiler.merged_listeners import placed_listeners
from penstock.compiler.nodes import places
from penstock.compiler.settings import Addressing, Reach
from penstock.core.kinds import Service
from penstock.gatewayapi import generated
from penstock.gatewayapi.attach import SERVED
from penstock.gatewayapi.generated import (
    CLASS_NAME,
    GATEWAY_NAME,
    GENERATED_FOR,
    Entrance,
    Exposed,
    Generated,
    Json,
    PortOfService,
    Purpose,
    for_clouds,
    is_for,
    is_generated,
    label_value,
    ports_of,
    service_name,
)
from penstock.gatewayapi.requested_addresses import wanted
from penstock.gatewayapi.resources import API_VERSIONS, Gateway, GatewayInfrastructure
from penstock.incremental.query import query
from penstock.ingress.annotations import options
from penstock.ingress.derive import ENTRY_NAMESPACE
from penstock.ingress.resources import Ingress, IngressClass
from penstock.meta.names import NamespacedName, ObjectRef


@query
def purpose(db: Database, name: NamespacedName) -> Purpose | None:
    """Return what the Service of a Gateway is for; None if it has none."""
    gateway, settings = ours(db, name), db.settings
    if gateway is None or settings.reach is not Reach.CLUSTER:
        return None
    if name.namespace == ENTRY_NAMESPACE:
        balanced = settings.addressing is Addressing.LOAD_BALANCER and settings.system_namespace
        return _of_entry(db, name.name) if balanced else None
    class_name = gateway.spec.gateway_class_name
    labels = {GATEWAY_NAME: label_value(name.name), CLASS_NAME: label_value(class_name)}
    return Purpose(
        service=NamespacedName(name.namespace, service_name(name.name, class_name)),
        value=label_value(name.name),
        labels=labels,
        owner=_owner(API_VERSIONS[0], Gateway.kind, gateway) | {"controller": True},
    )


def _of_entry(db: Database, entry: str) -> Purpose:
    """Return the same for an entry of Ingresses; it goes with the class that shares it."""
    class_name, _, alone = entry.partition("~")
    class_ = None if alone else db.ingress_classes.get(NamespacedName("", class_name))
    owner = None
    if class_ is not None and class_.metadata.uid:
        owner = _owner(IngressClass.api_versions[0], IngressClass.kind, class_)
    return Purpose(
        service=NamespacedName(
            db.settings.system_namespace, service_name("ingress", entry.removesuffix("~"))
        ),
        value=label_value(f"ingress~{entry}"),
        labels={},
        owner=owner,
    )


def _owner(api_version: str, kind: str, thing: Gateway | IngressClass) -> Json:
    """Return an entry of metadata.ownerReferences."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": thing.metadata.name,
        "uid": thing.metadata.uid,
    }


@query
def current(db: Database, name: NamespacedName) -> Service | None:
    """Return the Service of a Gateway as it is; None if it is not there, or somebody else's."""
    about = purpose(db, name)
    found = None if about is None else db.services.get(about.service)
    if about is None or found is None:
        return None
    return found if is_for(found.metadata.labels, about) else None


@query
def name_taken(db: Database, name: NamespacedName) -> str:
    """Return why a Gateway has no Service: somebody else has the name; "" if nobody has."""
    about = purpose(db, name)
    found = None if about is None else db.services.get(about.service)
    if about is None or found is None or current(db, name) is not None:
        return ""
    if is_generated(found.metadata.labels):
        whose = found.metadata.labels[GENERATED_FOR]
        return f"Service {about.service} is that of {whose} already; give the Gateway another name"
    return (
        f"Service {about.service} is not Penstock's and is left as it is; "
        "delete it, or give the Gateway another name"
    )


@query
def service_of(db: Database, name: NamespacedName) -> Generated | None:
    """Return the Service that a Gateway should have.

    One that is there stays while its Gateway is refused for a while: a cloud would give a new one
    another address.
    """
    gateway, about = ours(db, name), purpose(db, name)
    if gateway is None or about is None:
        return None
    placed = (one.own for one in placed_listeners(db, name))
    found = ports_of(one for one in placed if one.protocol in SERVED)
    if not found or (fault_of(db, name) is not None and current(db, name) is None):
        return None
    return generated.service(
        about,
        found,
        _infrastructure(db, gateway),
        _exposed(db, gateway),
    )


def _exposed(db: Database, gateway: Gateway) -> Exposed | None:
    """Return how clouds reach a Gateway; None where its addresses are not theirs.

    The class of a load balancer that is there cannot be changed.
    """
    if db.settings.addressing is not Addressing.LOAD_BALANCER:
        return None
    ingress = _ingress_of(db, gateway)
    made = Exposed() if ingress is None else options(ingress).exposing.exposed
    found = current(db, gateway.key)
    if found is not None and found.spec.type == "LoadBalancer":
        made = msgspec.structs.replace(made, load_balancer_class=found.spec.load_balancer_class)
    return msgspec.structs.replace(made, address=wanted_address(gateway))


def _ingress_of(db: Database, entry: Gateway) -> Ingress | None:
    """Return the Ingress that has an entry to itself; None for what several share."""
    namespace, _, name = entry.metadata.name.partition("~")
    if entry.metadata.namespace != ENTRY_NAMESPACE or not name:
        return None
    found = db.ingresses.get(NamespacedName(namespace, name))
    return None if found is None else found.ingress


def _infrastructure(db: Database, gateway: Gateway) -> GatewayInfrastructure | None:
    """Return what a user wants of the Service; of an entry its Ingress or its class says it."""
    if gateway.metadata.namespace != ENTRY_NAMESPACE:
        return gateway.spec.infrastructure
    first, _, name = gateway.metadata.name.partition("~")
    thing: Ingress | IngressClass | None = db.ingress_classes.get(NamespacedName("", first))
    if name:
        thing = _ingress_of(db, gateway)
    annotations = {} if thing is None else thing.metadata.annotations
    return GatewayInfrastructure(annotations=for_clouds(annotations))


def wanted_address(gateway: Gateway) -> str:
    """Return the address that a load balancer is asked for, "" for any: it can have one only."""
    return next(iter(wanted(gateway.spec)), "")


@query
def open_port(db: Database, at: GatewayPort) -> int:
    """Return at which port nodes serve a port of a Gateway; 0 if that is not known yet."""
    if db.settings.addressing is not Addressing.LOAD_BALANCER:
        return at.port
    found = current(db, at.gateway)
    protocol = "UDP" if at.datagrams else "TCP"
    for one in found.spec.ports if found is not None else ():
        if (one.port, one.protocol) == (at.port, protocol):
            return one.node_port
    return 0


@query
def slices_of(db: Database, name: NamespacedName) -> tuple[Generated, ...]:
    """Return where the Service of a Gateway should lead to."""
    about, found = purpose(db, name), current(db, name)
    if about is None or found is None or not found.metadata.uid or service_of(db, name) is None:
        return ()
    numbers = {
        PortOfService(at.port, "UDP" if at.datagrams else "TCP"): number
        for at in ports(db, name)
        if port_holder(db, at.host_port) in (None, at) and (number := open_port(db, at))
    }
    return generated.slices(about, found, _entrances(db, name), numbers)


def _entrances(db: Database, name: NamespacedName) -> Iterator[Entrance]:
    ref = gateway_ref(name)
    if db.settings.addressing is Addressing.POOL:
        return (Entrance(one) for one in assigned(db, ref).addresses)
    return (Entrance(place.address, place.node) for place in places(db, ref))


@query
def every_generated(db: Database, _: None) -> dict[ObjectRef, Generated]:
    """Return all objects that there should be; of two that want one name the older has it."""
    names = db.gateways.bucket("all", ALL) if db.settings.reach is Reach.CLUSTER else ()
    found: dict[ObjectRef, Generated] = {}
    for name in sorted(names, key=lambda one: (created(db, one), one)):
        service = service_of(db, name)
        if service is not None and service.ref not in found:
            found[service.ref] = service
            found.update((one.ref, one) for one in slices_of(db, name))
    return found
