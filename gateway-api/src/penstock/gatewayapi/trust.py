"""Certificates to trust: what references to ConfigMaps and ClusterTrustBundles come to.

Source: Gateway API v1.7, caCertificateRefs of BackendTLSPolicy and of GatewaySpec.tls.frontend; a
ClusterTrustBundle is of no namespace, whoever refers to it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.gatewayapi.certificates import AUTHORITIES_KEY, CertificateFault, read_authorities
from penstock.gatewayapi.fields import CORE_GROUP, LocalObjectReference, ObjectReference
from penstock.meta.names import NamespacedName, ObjectRef

BUNDLE_GROUP = "certificates.k8s.io"
SYSTEM = "System"
"""The only value of wellKnownCACertificates."""
HOLDERS = f"ConfigMap or ClusterTrustBundle of group {BUNDLE_GROUP}"

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


def is_bundle(reference: LocalObjectReference | ObjectReference) -> bool:
    """Return whether *reference* is to a ClusterTrustBundle."""
    return (reference.group, reference.kind) == (BUNDLE_GROUP, ClusterTrustBundle.kind)


def holder_of(
    reference: LocalObjectReference | ObjectReference, namespace: str
) -> ObjectRef | None:
    """Return what *reference* leads to; None if that kind holds no certificates to trust.

    Args:
        reference: the reference.
        namespace: where a ConfigMap is meant to be.
    """
    if is_bundle(reference):
        return ObjectRef(ClusterTrustBundle.kind, "", reference.name)
    if (reference.group, reference.kind) == (CORE_GROUP, ConfigMap.kind):
        return ObjectRef(ConfigMap.kind, namespace, reference.name)
    return None


def kind_text(reference: LocalObjectReference | ObjectReference) -> str:
    """Return the kind of a reference as it is told to people, with its group."""
    return f"{reference.group}/{reference.kind}" if reference.group else reference.kind


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
    read = read_authorities(content)
    if isinstance(read, CertificateFault):
        return CertificateFault(f"{holder}: {place} {read.message}")
    return read
