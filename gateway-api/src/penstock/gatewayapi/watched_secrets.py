"""Which Secrets are read at all: those that a Gateway of ours names and may use.

A Secret that nobody may use is not asked for, so that it never comes into our memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.core.objects import Broken, Object
from penstock.gatewayapi.listener_tls import referenced_secrets
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.gatewayapi.status import is_ours
from penstock.meta.names import NamespacedName

HOLDERS: frozenset[type[Object]] = frozenset({Gateway, GatewayClass, ReferenceGrant})
"""Kinds whose objects decide it."""


def watched_secrets(objects: Iterable[Object | Broken]) -> frozenset[NamespacedName]:
    """Return the Secrets to read, given all objects of the kinds `HOLDERS`."""
    classes: set[str] = set()
    grants: dict[str, list[ReferenceGrant]] = {}
    gateways: list[Gateway] = []
    for thing in objects:
        match thing:
            case GatewayClass() if is_ours(thing):
                classes.add(thing.metadata.name)
            case ReferenceGrant():
                grants.setdefault(thing.metadata.namespace, []).append(thing)
            case Gateway():
                gateways.append(thing)
            case _:
                pass
    return frozenset(
        name
        for gateway in gateways
        if gateway.spec.gateway_class_name in classes
        for name in referenced_secrets(gateway, lambda namespace: grants.get(namespace, ()))
    )
