"""References to what holds certificates to trust: ConfigMaps and ClusterTrustBundles.

Apart from `trust`, which reads them: kinds need no library that knows certificates.
"""

from __future__ import annotations

from penstock.core.kinds import ClusterTrustBundle, ConfigMap
from penstock.gatewayapi.fields import CORE_GROUP, LocalObjectReference, ObjectReference
from penstock.meta.names import ObjectRef

BUNDLE_GROUP = "certificates.k8s.io"
SYSTEM = "System"
"""The only value of wellKnownCACertificates."""
HOLDERS = f"ConfigMap or ClusterTrustBundle of group {BUNDLE_GROUP}"


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
