"""Which Gateways are ours."""

from __future__ import annotations

from penstock.compiler.database import ALL, Database
from penstock.gatewayapi.resources import Gateway
from penstock.gatewayapi.status import is_ours
from penstock.gatewayapi.versions import BUNDLE_VERSION
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName


@query
def ours(db: Database, name: NamespacedName) -> Gateway | None:
    """Return the Gateway if its class is one that we serve."""
    gateway = db.gateways.get(name)
    if gateway is None:
        return None
    class_ = db.gateway_classes.get(NamespacedName("", gateway.spec.gateway_class_name))
    return gateway if class_ is not None and is_ours(class_) else None


@query
def crd_versions(db: Database, _: object) -> frozenset[str]:
    """Return which releases the CRDs of Gateway API are of; nothing where there are no CRDs."""
    found = (db.crds.get(name) for name in db.crds.bucket("gateway api", ALL))
    return frozenset(
        one.metadata.annotations.get(BUNDLE_VERSION, "") for one in found if one is not None
    )
