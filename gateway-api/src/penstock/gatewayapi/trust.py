"""Certificates to trust: what references to ConfigMaps and ClusterTrustBundles come to.

Source: Gateway API v1.7, caCertificateRefs of BackendTLSPolicy and of GatewaySpec.tls.frontend; a
ClusterTrustBundle is of no namespace, whoever refers to it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.core.objects import Broken
from penstock.gatewayapi.certificate_faults import AUTHORITIES_KEY, CertificateFault, unreadable
from penstock.meta.names import NamespacedName, ObjectRef

ConfigMaps = Callable[[NamespacedName], ConfigMap | Broken | None]
Bundles = Callable[[NamespacedName], ClusterTrustBundle | Broken | None]


def _nothing(_: NamespacedName) -> None:
    return None


class TrustSources(msgspec.Struct, frozen=True, kw_only=True):
    """What caCertificateRefs and wellKnownCACertificates are looked up in."""

    config_map: ConfigMaps = _nothing
    bundle: Bundles = _nothing
    system: bool = False
    """Whether the authorities of the system are known."""


def trusted(holder: ObjectRef, sources: TrustSources) -> bytes | CertificateFault:
    """Return the certificates that *holder* has, in PEM, or why there are none."""
    lookup = sources.bundle if holder.kind == ClusterTrustBundle.kind else sources.config_map
    found = lookup(holder.key)
    if found is None:
        return CertificateFault(f"{holder} does not exist")
    if isinstance(found, Broken):
        return CertificateFault(f"{holder} {unreadable(found).message}")
    if isinstance(found, ClusterTrustBundle):
        content, place = found.spec.trust_bundle.encode(), "spec.trustBundle"
    else:
        content, place = found.files().get(AUTHORITIES_KEY, b""), AUTHORITIES_KEY
    from penstock.gatewayapi.certificates import read_authorities  # noqa: PLC0415  # see there

    read = read_authorities(content)
    if isinstance(read, CertificateFault):
        return CertificateFault(f"{holder}: {place} {read.message}")
    return read
