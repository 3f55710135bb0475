"""Which release of Gateway API the CustomResourceDefinitions are of, and whether we know it.

Source: Gateway API v1.7, GatewayClassConditionStatusSupportedVersion: every CRD of the group says
its release in an annotation; unknown ones may be served as far as possible.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from penstock.gatewayapi.conditions import fails, holds
from penstock.meta.conditions import Condition

BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version"
CHANNEL = "gateway.networking.k8s.io/channel"
GATEWAYS_CRD = "gateways.gateway.networking.k8s.io"
CLASSES_CRD = "gatewayclasses.gateway.networking.k8s.io"
XBACKENDS_CRD = "xbackends.gateway.networking.x-k8s.io"
GROUPS = ("gateway.networking.k8s.io", "gateway.networking.x-k8s.io")
OLDEST, NEWEST = (1, 1), (1, 7)
"""Major and minor; what lies between is understood in full."""
_WITH_ROUTABILITY = (1, 7)
_WITH_PARENTS = (1, 6)
_WITH_BARE_FEATURES = (1, 1)
SUPPORTED_VERSION, UNSUPPORTED_VERSION = "SupportedVersion", "UnsupportedVersion"
KINDS_SERVED, CRDS_MISSING = "penstock.dev/KindsServed", "CRDsMissing"
_STANDARD = {
    "BackendTLSPolicy": "backendtlspolicies",
    "GRPCRoute": "grpcroutes",
    "HTTPRoute": "httproutes",
    "ListenerSet": "listenersets",
    "ReferenceGrant": "referencegrants",
    "TCPRoute": "tcproutes",
    "TLSRoute": "tlsroutes",
    "UDPRoute": "udproutes",
}
"""Kind → its plural, of what the standard channel has besides Gateways and their classes."""


def has_routability(annotations: Mapping[str, str]) -> bool:
    """Return whether the addresses of a Gateway have a `routability`, by what its CRD notes."""
    release = release_of(annotations.get(BUNDLE_VERSION, ""))
    return annotations.get(CHANNEL) == "experimental" and release >= _WITH_ROUTABILITY


def names_parents(annotations: Mapping[str, str]) -> bool:
    """Return whether an XBackend tells of its `parents`, by what its CRD notes, not `ancestors`."""
    return release_of(annotations.get(BUNDLE_VERSION, "")) == _WITH_PARENTS


def has_bare_features(annotations: Mapping[str, str]) -> bool:
    """Return whether a GatewayClass lists features as texts, by what its CRD notes."""
    return release_of(annotations.get(BUNDLE_VERSION, "")) == _WITH_BARE_FEATURES


def release_of(text: str) -> tuple[int, ...]:
    """Return major and minor of "v1.7.0"; () if there are none."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def supported(versions: Collection[str], generation: int) -> Condition:
    """Return whether all *versions* are understood; "" is a CRD that says none."""
    strange = sorted({one for one in versions if not OLDEST <= release_of(one) <= NEWEST})
    if not strange:
        text = f"CRDs of {', '.join(sorted(versions))}"
        return holds(SUPPORTED_VERSION, SUPPORTED_VERSION, generation, text)
    named = ", ".join(one or "no version" for one in strange)
    text = f"CRDs of {named}: served as far as possible; {_wanted()} are understood in full"
    return fails(SUPPORTED_VERSION, UNSUPPORTED_VERSION, generation, text)


def too_old(versions: Collection[str]) -> str:
    """Return why no Gateway can be promised anything, "" if all *versions* are new enough."""
    old = sorted(one for one in versions if release_of(one) and release_of(one) < OLDEST)
    return f"CRDs of {', '.join(old)} are too old; install {_wanted()}" if old else ""


def missing_kinds(crds: Collection[str]) -> tuple[str, ...]:
    """Return the kinds of the standard channel that are not there.

    Args:
        crds: names of the CRDs of Gateway API; nothing is missing where there are none at all.
    """
    wanted = {kind: f"{plural}.{GROUPS[0]}" for kind, plural in _STANDARD.items()}
    return tuple(kind for kind, name in wanted.items() if crds and name not in crds)


def kinds_served(missing: Collection[str], generation: int) -> Condition | None:
    """Return the condition that some kinds are *missing*, None if none is."""
    if not missing:
        return None
    text = f"no CRDs of {', '.join(missing)}: not served until they are installed"
    return fails(KINDS_SERVED, CRDS_MISSING, generation, text)


def _wanted() -> str:
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST, NEWEST))
    return f"v{oldest} to v{newest}"
