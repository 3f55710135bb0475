"""Queries about the Services that are generated for Gateways.

In every cluster a Gateway has a Service of its own, by whose name pods reach it. Where a cloud
gives Gateways their addresses, it gives them to these Services.
"""

from __future__ import annotations

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.gateway_classes import fault_of, is_inside, is_of_services, ours
from penstock.compiler.indexes import ALL
from penstock.compiler.merged_listeners import placed_listeners
from penstock.compiler.settings import Addressing, Reach
from penstock.core.kinds import Service
from penstock.gatewayapi import generated
from penstock.gatewayapi.attach import SERVED
from penstock.gatewayapi.generated import (
    CLASS_NAME,
    GATEWAY_NAME,
    GENERATED_FOR,
    Exposed,
    Generated,
    Json,
    Purpose,
    for_clouds,
    is_for,
    is_generated,
    label_value,
    ports_of,
    service_name,
)
from penstock.gatewayapi.listeners import Reason
from penstock.gatewayapi.requested_addresses import inside, wanted, wanted_inside
from penstock.gatewayapi.resources import API_VERSIONS, Gateway, GatewayInfrastructure
from penstock.incremental.query import query
from penstock.ingress.annotations import options
from penstock.ingress.derive import ENTRY_NAMESPACE
from penstock.ingress.resources import Ingress, IngressClass
from penstock.meta.names import NamespacedName, ObjectRef

NAME_TAKEN, REFUSED = "NameTaken", "Refused"
"""Why a Gateway has no Service, or not as it should be."""


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
def why_no_service(db: Database, name: NamespacedName) -> Reason | None:
    """Return why a Gateway has not the Service that it should have; None if it has or soon will."""
    taken, about = name_taken(db, name), purpose(db, name)
    if taken:
        return Reason(NAME_TAKEN, taken)
    why = None if about is None else db.refused.get(_ref(about.service))
    if about is None or why is None:
        return None
    return Reason(REFUSED, f"the API server refuses Service {about.service}: {why}")


def _ref(service: NamespacedName) -> ObjectRef:
    return ObjectRef(Service.kind, service.namespace, service.name)


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
    address = _cluster_ip(db, name)
    if address is None:
        return None
    return generated.service(
        about,
        found,
        _infrastructure(db, gateway),
        _exposed(db, gateway),
        address,
    )


def _cluster_ip(db: Database, name: NamespacedName) -> str | None:
    """Return the address of the cluster that the Service of a Gateway should have, "" for any.

    None if it must go first, because it has another one, which cannot be changed. One that a cloud
    has given an address stays.
    """
    found = current(db, name)
    free = [one.address for one in asked_inside(db, name) if not one.why_not]
    if not free or found is None:
        return next(iter(free), "")
    have = next((one for one in free if one in found.addresses), "")
    return None if not have and found.spec.type == "ClusterIP" else have


class AskedInside(msgspec.Struct, frozen=True, kw_only=True):
    """An address of the cluster that a Gateway asks for."""

    address: str
    why_not: str
    """Why its Service cannot have it, "" if it can."""


@query
def asked_inside(db: Database, name: NamespacedName) -> tuple[AskedInside, ...]:
    """Return the addresses of the cluster that a Gateway asks for by their values."""
    gateway, about = ours(db, name), purpose(db, name)
    if gateway is None or about is None:
        return ()
    return tuple(
        AskedInside(address=one, why_not=_why_not(db, one, about.service))
        for one in wanted_inside(gateway.spec)
    )


@query
def can_be_inside(db: Database, name: NamespacedName) -> bool:
    """Tell whether a Gateway can have one of the addresses of the cluster that it asks for."""
    gateway = ours(db, name)
    if gateway is None:
        return False
    any_will_do = any(not one.value for one in inside(gateway.spec))
    return any_will_do or any(not one.why_not for one in asked_inside(db, name))


def _why_not(db: Database, address: str, service: NamespacedName) -> str:
    """Return why a Service cannot have an address, "" if it can."""
    if not db.service_cidrs.holds("all", ALL):
        return "cannot be given: the cluster tells no ServiceCIDRs, as Kubernetes 1.33 does"
    if not is_of_services(db, address):
        return "is none that a ServiceCIDR of the cluster gives to Services"
    others = [one for one in db.services.bucket("address", address) if one != service]
    return f"is that of Service {others[0]}" if others else ""


def _exposed(db: Database, gateway: Gateway) -> Exposed | None:
    """Return how clouds reach a Gateway; None where its addresses are not theirs to give.

    The class of a load balancer that is there cannot be changed.
    """
    if db.settings.addressing is not Addressing.LOAD_BALANCER or is_inside(db, gateway.key):
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
