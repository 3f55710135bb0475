"""Which Secrets are read at all: those that Gateways of ours, ListenerSets and XBackends may use.

A Secret that nobody may use is not asked for, so that it never comes into our memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.client_certificates import named_authorities
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.external_backends import certificate_to_read
from penstock.gatewayapi.grants import permits_of
from penstock.gatewayapi.listener_set import ListenerHolder, ListenerSet
from penstock.gatewayapi.listener_tls import referenced_secrets
from penstock.gatewayapi.resources import FromNamespaces, Gateway, GatewayClass, ReferenceGrant
from penstock.gatewayapi.status import is_ours
from penstock.meta.names import NamespacedName, ObjectRef


def watched_secrets(objects: Iterable[Object | Broken]) -> frozenset[NamespacedName]:
    """Return the Secrets to read, given all objects of the kinds `HOLDERS`."""
    classes: set[str] = set()
    grants: list[ReferenceGrant] = []
    gateways: dict[NamespacedName, Gateway] = {}
    sets: list[ListenerSet] = []
    backends: list[XBackend] = []
    for thing in objects:
        match thing:
            case GatewayClass() if is_ours(thing):
                classes.add(thing.metadata.name)
            case ReferenceGrant():
                grants.append(thing)
            case Gateway():
                gateways[thing.key] = thing
            case ListenerSet():
                sets.append(thing)
            case XBackend():
                backends.append(thing)
            case _:
                pass
    served = {key: one for key, one in gateways.items() if one.spec.gateway_class_name in classes}
    holders: list[ListenerHolder] = [*served.values()]
    for one in sets:
        gateway = served.get(one.gateway) if one.gateway is not None else None
        if gateway is not None and _may_let_in(gateway, one):
            holders.append(one)
    permits = permits_of(grants)
    shown = (name for one in backends for name in certificate_to_read(one, permits))
    served_with = (name for one in holders for name in referenced_secrets(one, permits))
    return frozenset((*served_with, *shown))


def watched_config_maps(objects: Iterable[Object | Broken]) -> frozenset[NamespacedName]:
    """Return the ConfigMaps to read, given all objects of the kinds `AUTHORITY_HOLDERS`."""
    return _watched(objects, ConfigMap)


def watched_bundles(objects: Iterable[Object | Broken]) -> frozenset[NamespacedName]:
    """Return the ClusterTrustBundles to read, given the same objects."""
    return _watched(objects, ClusterTrustBundle)


def _watched(objects: Iterable[Object | Broken], kind: type[Object]) -> frozenset[NamespacedName]:
    classes: set[str] = set()
    grants: list[ReferenceGrant] = []
    gateways: list[Gateway] = []
    found: set[ObjectRef] = set()
    for thing in objects:
        match thing:
            case BackendTLSPolicy() | XBackend():
                found.update(thing.authorities)
            case GatewayClass() if is_ours(thing):
                classes.add(thing.metadata.name)
            case ReferenceGrant():
                grants.append(thing)
            case Gateway():
                gateways.append(thing)
            case _:
                pass
    permits = permits_of(grants)
    for one in gateways:
        if one.spec.gateway_class_name in classes:
            found |= named_authorities(one, permits)
    return frozenset(one.key for one in found if one.kind == kind.kind)


def _may_let_in(gateway: Gateway, added: ListenerSet) -> bool:
    """Return whether *gateway* lets *added* in, as far as labels of namespaces do not decide it."""
    wanted = gateway.spec.allowed_listeners.namespaces.from_
    same = added.metadata.namespace == gateway.metadata.namespace
    return wanted is not FromNamespaces.NONE and (wanted is not FromNamespaces.SAME or same)
