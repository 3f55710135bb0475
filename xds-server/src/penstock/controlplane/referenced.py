"""What is read of an API server only where another object names it.

The rules for that know certificates and more; they are imported when the first objects have come,
while the API server lists the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from penstock.core.kinds import ClusterTrustBundle, ConfigMap, Secret
from penstock.core.objects import Broken, Object
from penstock.gatewayapi.backend_tls_policy import BackendTLSPolicy
from penstock.gatewayapi.external_backend_kind import XBackend
from penstock.gatewayapi.listener_set import ListenerSet
from penstock.gatewayapi.resources import Gateway, GatewayClass, ReferenceGrant
from penstock.ingress.resources import Ingress, IngressClass
from penstock.meta.names import NamespacedName
from penstock.sources.kubernetes.followed import Referenced

Objects = Iterable[Object | Broken]
Names = frozenset[NamespacedName]

_NAMERS: frozenset[type[Object]] = frozenset({Gateway, ListenerSet, XBackend, Ingress})
"""Kinds whose objects name Secrets."""
_AUTHORITY_NAMERS: frozenset[type[Object]] = frozenset({BackendTLSPolicy, Gateway, XBackend})
"""Kinds whose objects name what holds certificates to trust."""


def _secrets(objects: Objects) -> Names:
    from penstock.gatewayapi import watched_secrets as of_gateways  # noqa: PLC0415 - see above
    from penstock.ingress import watched_secrets as of_ingresses  # noqa: PLC0415

    every = tuple(objects)
    return of_gateways.watched_secrets(every) | of_ingresses.watched_secrets(every)


def _config_maps(objects: Objects) -> Names:
    from penstock.gatewayapi.watched_secrets import watched_config_maps  # noqa: PLC0415

    return watched_config_maps(objects)


def _bundles(objects: Objects) -> Names:
    from penstock.gatewayapi.watched_secrets import watched_bundles  # noqa: PLC0415

    return watched_bundles(objects)


SECRETS = Referenced(
    kind=Secret,
    holders=_NAMERS | {GatewayClass, ReferenceGrant, IngressClass},
    waits=_NAMERS,
    names=_secrets,
)
"""Those that Gateways and Ingresses may use, and no others."""
AUTHORITIES = Referenced(
    kind=ConfigMap,
    holders=_AUTHORITY_NAMERS | {GatewayClass, ReferenceGrant},
    waits=_AUTHORITY_NAMERS,
    names=_config_maps,
)
"""ConfigMaps with certificates of authorities, and no others."""
BUNDLES = Referenced(
    kind=ClusterTrustBundle,
    holders=_AUTHORITY_NAMERS | {GatewayClass, ReferenceGrant},
    waits=_AUTHORITY_NAMERS,
    names=_bundles,
)
"""ClusterTrustBundles with the same; the kind is asked for only when one is named."""
REFERENCED = (SECRETS, AUTHORITIES, BUNDLES)
