"""Which Gateways are ours, and which of them are served."""

from __future__ import annotations

import functools

import msgspec

from penstock.compiler.database import Database
from penstock.compiler.indexes import ALL
from penstock.compiler.settings import Addressing, Reach
from penstock.core.ranges import AddressRanges
from penstock.gatewayapi.listeners import Reason, gateway_fault
from penstock.gatewayapi.requested_addresses import may_be_inside, only_inside, with_reach
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.status import class_fault, is_ours
from penstock.gatewayapi.versions import (
    BUNDLE_VERSION,
    CLASSES_CRD,
    GATEWAYS_CRD,
    XBACKENDS_CRD,
    has_bare_features,
    has_routability,
    missing_kinds,
    names_parents,
)
from penstock.incremental.query import query
from penstock.ingress.derive import ENTRY_CLASS
from penstock.meta.names import NamespacedName


@query
def ours(db: Database, name: NamespacedName) -> Gateway | None:
    """Return the Gateway, without its status, if its class is one that we serve.

    Addresses that it asks for in a network of Services say that they are of the cluster.
    """
    gateway = db.gateways.get(name)
    if gateway is None:
        return None
    class_ = db.gateway_classes.get(NamespacedName("", gateway.spec.gateway_class_name))
    if class_ is None or not is_ours(class_):
        return None
    if not may_be_inside(gateway.spec):
        return gateway
    spec = with_reach(gateway.spec, functools.partial(_is_of_cluster, db))
    return msgspec.structs.replace(gateway, spec=spec)


def _is_of_cluster(db: Database, address: str) -> bool:
    """Tell whether an address that does not say its reach is one of the cluster."""
    settings = db.settings
    if settings.reach is not Reach.CLUSTER:
        return False
    pooled = settings.addressing is Addressing.POOL and address in AddressRanges(
        settings.gateway_pool
    )
    return not pooled and is_of_services(db, address)


def is_of_services(db: Database, address: str) -> bool:
    """Tell whether an address is in a network from which Services get theirs."""
    found = map(db.service_cidrs.get, db.service_cidrs.bucket("all", ALL))
    return any(one is not None and address in one for one in found)


@query
def is_our_gateway(db: Database, name: NamespacedName) -> bool:
    """Tell whether a Gateway is ours, for those who need no more of it."""
    return ours(db, name) is not None


@query
def is_inside(db: Database, name: NamespacedName) -> bool:
    """Tell whether a Gateway of ours is reached from inside of the cluster, and nowhere else."""
    gateway = ours(db, name)
    return gateway is not None and only_inside(gateway.spec)


@query
def fault_of_class(db: Database, name: str) -> Reason | None:
    """Return why a GatewayClass of ours, and so none of its Gateways, is accepted; None if it is.

    What Ingresses are reached by does not depend on the CRDs.
    """
    class_ = db.gateway_classes.get(NamespacedName("", name))
    if class_ is None or name == ENTRY_CLASS:
        return None
    return class_fault(class_, crd_versions(db, None))


@query
def fault_of(db: Database, name: NamespacedName) -> Reason | None:
    """Return why a Gateway of ours is not served, whatever its listeners; None if it is."""
    gateway = ours(db, name)
    if gateway is None:
        return None
    return fault_of_class(db, gateway.spec.gateway_class_name) or gateway_fault(gateway.spec)


@query
def knows_routability(db: Database, _: object) -> bool:
    """Tell whether the API server keeps what is said of the reach of addresses."""
    crd = db.crds.get(NamespacedName("", GATEWAYS_CRD))
    return crd is not None and has_routability(crd.metadata.annotations)


@query
def drops_routability(db: Database, _: object) -> bool:
    """Tell whether there is an API server that drops what is said of it."""
    there = db.crds.get(NamespacedName("", GATEWAYS_CRD)) is not None
    return there and not knows_routability(db, None)


@query
def tells_parents(db: Database, _: object) -> bool:
    """Tell whether XBackends say who sends to them as `parents`; later it is `ancestors`."""
    crd = db.crds.get(NamespacedName("", XBACKENDS_CRD))
    return crd is not None and names_parents(crd.metadata.annotations)


@query
def lists_bare_features(db: Database, _: object) -> bool:
    """Tell whether the server takes features of a GatewayClass as texts only."""
    crd = db.crds.get(NamespacedName("", CLASSES_CRD))
    return crd is not None and has_bare_features(crd.metadata.annotations)


@query
def crd_versions(db: Database, _: object) -> frozenset[str]:
    """Return which releases the CRDs of Gateway API are of; nothing where there are no CRDs."""
    found = (db.crds.get(name) for name in db.crds.bucket("gateway api", ALL))
    return frozenset(
        one.metadata.annotations.get(BUNDLE_VERSION, "") for one in found if one is not None
    )


@query
def lacking_kinds(db: Database, _: object) -> tuple[str, ...]:
    """Return the kinds of Gateway API that the API server does not know."""
    return missing_kinds({name.name for name in db.crds.bucket("gateway api", ALL)})
