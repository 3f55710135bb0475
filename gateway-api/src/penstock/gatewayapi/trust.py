"""Certificates to trust: what references to ConfigMaps and ClusterTrustBundles come to.

Source: Gateway API v1.7, caCertificateRefs of BackendTLSPolicy and of GatewaySpec.tls.frontend; a
ClusterTrustBundle is of no namespace, whoever refers to it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.gatewayapi.certificate_faults import AUTHORITIES_KEY, CertificateFault
from penstock.meta.names import NamespacedName, ObjectRef

ConfigMaps = Callable[[NamespacedName], ConfigMap | None]
Bundles = Callable[[NamespacedName], ClusterTrustBundle | None]


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
    if holder.kind == ClusterTrustBundle.kind:
        bundle = sources.bundle(holder.key)
        content = None if bundle is None else bundle.spec.trust_bundle.encode()
        place = "spec.trustBundle"
    else:
        found = sources.config_map(holder.key)
        content = None if found is None else found.files().get(AUTHORITIES_KEY, b"")
        place = AUTHORITIES_KEY
    if content is None:
        return CertificateFault(f"{holder} does not exist")
    from penstock.gatewayapi.certificates import read_authorities  # noqa: PLC0415  # see there

    read = read_authorities(content)
    if isinstance(read, CertificateFault):
        return CertificateFault(f"{holder}: {place} {read.message}")
    return read
